//! Figures within the page: in its colours, and images as part of it.

use base64::{Engine, engine::general_purpose::STANDARD};
use maud::{Markup, PreEscaped, html};

use super::super::plot::PlotError;

/// Colours of figures, and what they are called in the style sheet.
const COLORS: [(&str, &str); 15] = [
    ("\"#000000\"", "\"currentColor\""),
    ("\"#FFFFFF\"", "\"none\""),
    ("\"#DEDEDE\"", "\"var(--band)\""),
    ("\"#787878\"", "\"var(--faint)\""),
    ("\"#5A5A5A\"", "\"var(--faint)\""),
    ("\"#0072B2\"", "\"var(--c0)\""),
    ("\"#D55E00\"", "\"var(--c1)\""),
    ("\"#009E73\"", "\"var(--c2)\""),
    ("\"#CC79A7\"", "\"var(--c3)\""),
    ("\"#56B4E9\"", "\"var(--c4)\""),
    ("\"#E69F00\"", "\"var(--c5)\""),
    ("\"#fff\"", "\"none\""),
    ("\"#112\"", "\"currentColor\""),
    ("\"#667\"", "\"var(--faint)\""),
    ("\"#334\"", "\"var(--line)\""),
];

/// An SVG document in the colours of the page.
pub(super) fn themed(svg: &str) -> String {
    COLORS.iter().fold(svg.to_owned(), |svg, (plain, named)| svg.replace(plain, named))
}

/// An SVG document with its caption.
pub(super) fn figure(svg: &str, caption: &str) -> Markup {
    // Its size is the page's to decide: the view box stays.
    let svg = themed(svg);
    let svg = svg
        .find("viewBox")
        .map_or(svg.clone(), |at| format!("<svg role=\"img\" aria-label=\"{}\" {}", escaped(caption), &svg[at..]));
    html! {
        figure {
            (PreEscaped(svg))
            @if !caption.is_empty() { figcaption { (caption) } }
        }
    }
}

fn escaped(text: &str) -> String {
    html! { (text) }.into_string().replace('"', "&quot;")
}

/// A PNG as an address that holds it.
pub(super) fn inline(png: Result<Vec<u8>, PlotError>) -> Result<String, PlotError> {
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(png?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_take_the_colours_of_the_page_and_leave_their_size_to_it() {
        let svg = "<svg width=\"9\" height=\"9\" viewBox=\"0 0 9 9\"><path stroke=\"#000000\" fill=\"#DEDEDE\"/></svg>";
        let markup = figure(svg, "a \"b\" < c").into_string();
        assert!(
            markup.contains("<svg role=\"img\" aria-label=\"a &quot;b&quot; &lt; c\" viewBox=\"0 0 9 9\">"),
            "{markup}"
        );
        assert!(markup.contains("stroke=\"currentColor\" fill=\"var(--band)\""), "{markup}");
    }
}
