//! How help looks, and the promise that the examples in it are commands.

use clap::{
    Command,
    builder::{
        StyledStr,
        styling::{AnsiColor, Effects, Styles},
    },
};

/// The colours of help, as cargo has them; clap leaves them out where there is no terminal, or with `NO_COLOR`.
pub(super) const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Green.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Cyan.on_default().effects(Effects::BOLD))
    .placeholder(AnsiColor::Cyan.on_default());

/// Gives the headings of what stands below the options the colour of the others.
pub(super) fn coloured(command: Command) -> Command {
    let below = command.get_after_help().map(ToString::to_string);
    let command = command.mut_subcommands(coloured);
    let Some(below) = below else { return command };
    let header = STYLES.get_header();
    let heading = |line: &str| match line {
        "Example:" | "Examples:" => format!("{header}{line}{header:#}"),
        line => line.to_owned(),
    };
    command.after_help(StyledStr::from(below.lines().map(heading).collect::<Vec<_>>().join("\n")))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{super::Cli, *};

    /// The commands in the help of a verb: lines that begin with the program, up to what is said of them.
    fn examples(command: &Command) -> Vec<String> {
        let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = below.lines().filter_map(|line| line.trim().strip_prefix("pgan-pipe "));
        lines.map(|line| line.split("  ").next().unwrap().to_owned()).collect()
    }

    /// The words of a command, up to what is done with its output or after it; only quotes around a whole word are known.
    fn words(command: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in command.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().unwrap().push(c),
            }
        }
        words.into_iter().take_while(|word| word != ">" && word != "&&").collect()
    }

    fn leaves(command: &Command) -> Vec<&Command> {
        let inner: Vec<&Command> = command.get_subcommands().filter(|inner| !inner.is_hide_set()).collect();
        if inner.is_empty() { vec![command] } else { inner.into_iter().flat_map(leaves).collect() }
    }

    #[test]
    fn every_example_in_the_help_is_a_command_of_its_verb() {
        let all = Cli::command();
        assert!(examples(&all).len() > 3);
        for command in leaves(&all).into_iter().chain([&all]) {
            for example in examples(command) {
                let words = [vec!["pgan-pipe".to_owned()], words(&example)].concat();
                assert!(Cli::try_parse_from(words).is_ok(), "{}: {example}", command.get_name());
            }
        }
    }

    #[test]
    fn verbs_that_take_something_have_examples() {
        let all = Cli::command();
        let bare: Vec<&str> =
            leaves(&all).into_iter().filter(|verb| examples(verb).is_empty()).map(Command::get_name).collect();
        assert_eq!(bare, ["cancel", "devices", "ls", "runs", "verify"]);
    }

    #[test]
    fn headings_below_the_options_are_coloured_and_nothing_else_changes() {
        let plain = Cli::command().get_after_help().unwrap().to_string();
        let styled = coloured(Cli::command());
        assert!(styled.get_after_help().unwrap().ansi().to_string().contains("\u{1b}[1m"));
        assert_eq!(styled.get_after_help().unwrap().to_string(), plain);
    }
}
