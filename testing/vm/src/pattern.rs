//! Names with `*` for any text, and their order.

use std::cmp::Ordering;

/// Returns whether the pattern matches the name.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name
            .strip_prefix(head)
            .is_some_and(|rest| rest.char_indices().any(|(at, _)| fits(tail, &rest[at..])) || fits(tail, "")),
    }
}

/// Compares names with numbers by value: `6.1.0-9` before `6.1.0-10`.
pub(crate) fn by_number(a: &str, b: &str) -> Ordering {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (mut a, mut b) = (a, b);
    loop {
        let (here, there) = (digits(a), digits(b));
        let order = if here > 0 && there > 0 {
            let (x, y) = (a[..here].trim_start_matches('0'), b[..there].trim_start_matches('0'));
            (a, b) = (&a[here..], &b[there..]);
            x.len().cmp(&y.len()).then(x.cmp(y))
        } else {
            let (mut left, mut right) = (a.chars(), b.chars());
            let (x, y) = (left.next(), right.next());
            if x.is_none() && y.is_none() {
                return Ordering::Equal;
            }
            (a, b) = (left.as_str(), right.as_str());
            x.cmp(&y)
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, name, expected) in
            [("*", "", true), ("a*c", "abbc", true), ("a*c", "abbcd", false), ("a**", "a", true)]
        {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn numbers_count_by_their_value() {
        for (less, more) in
            [("6.1.0-9", "6.1.0-10"), ("6.12.5+deb13", "6.12.48+deb13"), ("6.1", "6.1.1"), ("a", "b")]
        {
            assert_eq!(by_number(less, more), Ordering::Less, "{less} {more}");
            assert_eq!(by_number(more, less), Ordering::Greater, "{less} {more}");
            assert_eq!(by_number(less, less), Ordering::Equal);
        }
    }
}
