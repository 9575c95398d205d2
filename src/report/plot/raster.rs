//! Figures as PNG: the same documents, with the letters of a font that comes with the program.

use std::sync::{Arc, LazyLock};

use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};

use super::PlotError;

/// DejaVu Sans, cut down to what figures are labelled with: Latin, Greek, indices and signs.
static FONT: &[u8] = include_bytes!("font/DejaVuSans.ttf");

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// Renders an SVG document as a PNG of `scale` times as many pixels.
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>, PlotError> {
    let drawing = |error: &dyn std::fmt::Display| PlotError::Drawing(error.to_string());
    let options = Options { fontdb: Arc::clone(&FONTS), font_family: "DejaVu Sans".to_owned(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|error| drawing(&error))?;
    let size = tree.size().to_int_size().scale_by(scale).ok_or_else(|| drawing(&"it has no size"))?;
    let mut pixels = Pixmap::new(size.width(), size.height()).ok_or_else(|| drawing(&"it is too large"))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| drawing(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_rendered_with_its_letters() {
        let with = |words: &str| {
            let svg = format!(
                "<svg xmlns='http://www.w3.org/2000/svg' width='80' height='30'>\
                 <text x='5' y='20' font-family='Helvetica, sans-serif' font-size='16'>{words}</text></svg>"
            );
            Pixmap::decode_png(&png(&svg, 2.0).unwrap()).unwrap()
        };
        let (letters, blank) = (with("χ² mⱼⱼ η"), with(""));
        assert_eq!((letters.width(), letters.height()), (160, 60));
        let inked = |pixels: &Pixmap| pixels.pixels().iter().filter(|pixel| pixel.alpha() > 0).count();
        assert_eq!(inked(&blank), 0);
        assert!((300..3000).contains(&inked(&letters)), "{}", inked(&letters));
        assert!(png("<svg", 1.0).is_err());
    }
}
