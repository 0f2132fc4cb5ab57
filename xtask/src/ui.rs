//! Output for people: colours on a terminal, plain text otherwise (anstream strips them).

use std::io::IsTerminal;
use std::time::Duration;

use anstyle::{AnsiColor, Style};

/// A failure.
pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
/// A success.
pub(crate) const GREEN: Style = AnsiColor::Green.on_default().bold();
/// Something to know before going on.
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
/// The title of a step.
pub(crate) const CYAN: Style = AnsiColor::Cyan.on_default().bold();

/// Returns whether a person can answer a question: both streams are a terminal.
pub(crate) fn person_watches() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Returns whether standard output shows colours.
pub(crate) fn coloured() -> bool {
    !matches!(anstream::AutoStream::choice(&std::io::stdout()), anstream::ColorChoice::Never)
}

/// Announces a step.
pub(crate) fn step(title: &str) {
    anstream::println!("{CYAN}==>{CYAN:#} {title}");
}

/// Formats a time: `7.3 s`, `2 min 05 s`.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(time(Duration::from_millis(7_310)), "7.3 s");
        assert_eq!(time(Duration::from_secs(125)), "2 min 05 s");
    }
}
