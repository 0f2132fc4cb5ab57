//! Keys of users that a caller passed as something else. Errors show names, so they must not show
//! these.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The placeholder for a key.
const HIDDEN: &str = "…";

/// The placeholder for the name of an option.
const NO_OPTION: &str = "… (hidden: it may be a key)";

/// The bytes before the secret in a key. The last two are the length of the secret.
const HEADER: usize = 12;

/// The length of the shortest key, with a secret of one byte.
const SHORTEST: usize = 20;

/// Longer than any key. Without a limit, long texts would take long.
const LONGEST: usize = 400;

/// Returns the name of an option as it may be shown: not if it may be a key, even one with a typing
/// error. No option has a long name without an underscore but with capitals.
pub(crate) fn option_name(name: &str) -> Cow<'_, str> {
    let text = name.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let may_be_key = text.len() >= 12
        && !text.contains('_')
        && (text.ends_with('=') || text.contains(|c: char| c.is_ascii_uppercase()));
    if may_be_key { NO_OPTION.into() } else { without_keys(name) }
}

/// Returns the key of metadata as it may be shown: `conf_` and the name of an option overrides this
/// option.
pub(crate) fn metadata_key(key: &str) -> Cow<'_, str> {
    match key.strip_prefix("conf_") {
        Some(option) => format!("conf_{}", option_name(option)).into(),
        None => without_keys(key),
    }
}

/// Hides all well-formed keys in a text.
pub(crate) fn without_keys(text: &str) -> Cow<'_, str> {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let bytes = text.as_bytes();
    let (mut shown, mut copied, mut start) = (String::new(), 0, 0);
    while start < bytes.len() {
        let digits = bytes[start..].iter().take_while(|byte| is_digit(byte)).count();
        if digits == 0 {
            start += 1;
            continue;
        }
        let padding = bytes[start + digits..].iter().take(2).take_while(|byte| **byte == b'=').count();
        let end = start + digits + padding;
        // The digits may begin with the rest of a path.
        let first = start.max(end.saturating_sub(LONGEST));
        if let Some(key) = (first..end.saturating_sub(SHORTEST - 1)).find(|from| is_key(&bytes[*from..end])) {
            shown.push_str(&text[copied..key]);
            shown.push_str(HIDDEN);
            copied = end;
        }
        start = end;
    }
    if copied == 0 {
        return text.into();
    }
    shown.push_str(&text[copied..]);
    shown.into()
}

/// Returns whether this is a well-formed key. All types of keys are small numbers, so that keys
/// begin with one of the first letters.
fn is_key(text: &[u8]) -> bool {
    if text.len() % 4 != 0 || !matches!(text[0], b'A'..=b'D') {
        return false;
    }
    let Ok(binary) = STANDARD.decode(text).map(Zeroizing::new) else { return false };
    let Some(&[kind, 0, .., low, high]) = binary.get(..HEADER) else { return false };
    let secret = usize::from(u16::from_le_bytes([low, high]));
    (1..16).contains(&kind) && secret > 0 && binary.len() == HEADER + secret
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==";

    #[test]
    fn keys_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            (KEY.to_owned(), "…"),
            (format!("pool/{KEY}@a"), "pool/…@a"),
            (format!("key={KEY}\n"), "key=…\n"),
            (format!("client.{KEY} and '{KEY}' too"), "client.… and '…' too"),
            ("ünï".to_owned(), "ünï"),
            (String::new(), ""),
            (
                "/some/path/of/Base64/digits/Aand/so/on==".to_owned(),
                "/some/path/of/Base64/digits/Aand/so/on==",
            ),
        ] {
            assert_eq!(without_keys(&text), shown);
        }
        let long = "A".repeat(1 << 20);
        assert_eq!(without_keys(&long), long);
        assert_eq!(without_keys(&format!("{long}/{KEY}")), format!("{long}/…"));
        // The length of the secret is wrong.
        assert_eq!(without_keys(&KEY[4..]), &KEY[4..]);
        let newer = STANDARD.encode([&[2, 0, 1, 2, 3, 4, 0, 0, 0, 0, 32, 0][..], &[7; 32]].concat());
        assert_eq!(without_keys(&newer), "…");
        let header = |secret| [1, 0, 1, 2, 3, 4, 0, 0, 0, 0, secret, 0];
        let shortest = STANDARD.encode([&header(1)[..], &[7]].concat());
        assert_eq!((shortest.len(), &*without_keys(&shortest)), (SHORTEST, "…"));
        for (claimed, secret) in [(0, 3), (16, 15), (14, 15)] {
            let wrong = STANDARD.encode([&header(claimed)[..], &vec![7; secret]].concat());
            assert_eq!(without_keys(&wrong), wrong);
        }
    }

    #[test]
    fn a_key_with_a_typing_error_is_no_name_of_an_option() {
        let hidden = |name: &str| assert_eq!(option_name(name), NO_OPTION, "{name}");
        for name in [KEY, &KEY[1..], &KEY[..38], &format!("{KEY}\0"), &KEY.replace('i', "!")] {
            hidden(name);
        }
        hidden("aqbikbxyupx==");
        hidden("aqbikbxyupx==\n");
        for name in
            ["rbd_cache", "Mon_Host", "RBD_CACHE_POLICY", "mon host", "no-such-option-here", "Key", "", "="]
        {
            assert_eq!(option_name(name), name);
        }
    }

    #[test]
    fn an_override_is_the_name_of_an_option() {
        assert_eq!(metadata_key(&format!("conf_{}", &KEY[1..])), format!("conf_{NO_OPTION}"));
        assert_eq!(metadata_key(&format!("conf_{KEY}")), format!("conf_{NO_OPTION}"));
        for key in ["conf_rbd_cache", "any Key with Capitals", "conf"] {
            assert_eq!(metadata_key(key), key);
        }
    }
}
