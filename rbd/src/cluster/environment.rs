//! The options in CEPH_ARGS that must be known before librados reads them: the client's name, its
//! configuration file and its keyring.
//!
//! librados reads the others itself.

/// The options of CEPH_ARGS about the client itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EarlyArgs {
    pub(super) user: Option<String>,
    pub(super) conf_file: Option<String>,
    pub(super) cluster_name: Option<String>,
    /// The list of keyrings, including that of CEPH_KEYRING.
    pub(super) keyring: Option<String>,
}

impl EarlyArgs {
    pub(super) fn from_env() -> EarlyArgs {
        let mut early = EarlyArgs::parse(&std::env::var("CEPH_ARGS").unwrap_or_default());
        early.keyring = early.keyring.or_else(|| std::env::var("CEPH_KEYRING").ok());
        early
    }

    /// Parses CEPH_ARGS. As in librados, white space separates the words, and the last value wins.
    pub(super) fn parse(args: &str) -> EarlyArgs {
        let mut early = EarlyArgs::default();
        let mut words = args.split_whitespace();
        while let Some(word) = words.next() {
            let (option, attached) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (word, None),
            };
            let place = match option {
                "--id" | "--user" | "-i" | "--name" | "-n" => &mut early.user,
                "--conf" | "-c" => &mut early.conf_file,
                "--cluster" => &mut early.cluster_name,
                "--keyring" | "-k" => &mut early.keyring,
                _ => continue,
            };
            *place = attached.or_else(|| words.next()).map(str::to_owned).or(place.take());
        }
        early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_of_the_client_are_taken() {
        let early =
            EarlyArgs::parse("--id backup --keyring /k --conf=/etc/c.conf --debug-ms=1 --cluster west");
        assert_eq!(early.user.as_deref(), Some("backup"));
        assert_eq!(early.conf_file.as_deref(), Some("/etc/c.conf"));
        assert_eq!(early.cluster_name.as_deref(), Some("west"));
        assert_eq!(early.keyring.as_deref(), Some("/k"));
        assert_eq!(EarlyArgs::parse("-n client.x --id y").user.as_deref(), Some("y"));
        assert_eq!(EarlyArgs::parse(""), EarlyArgs::default());
        assert_eq!(EarlyArgs::parse("--id"), EarlyArgs::default());
    }
}
