//! Misspelt names of parameters.

/// Names in classes of other drivers that this driver does not read. They are not misspelt.
const FOREIGN: [&str; 8] = [
    "cephLogDir",
    "cephLogStrategy",
    "encryptionKMSID",
    "encryptionType",
    "imageFormat",
    "thickProvision",
    "tryOtherMounters",
    "unmapOptions",
];

/// Returns the known name that an unknown one resembles; `None` if it resembles none.
pub(crate) fn meant<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    if FOREIGN.contains(&name) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let near = |known: &&&str| {
        let slips = if known.len() < 8 { 1 } else { 2 };
        distance(&lower, &known.to_ascii_lowercase()) <= slips
    };
    known.iter().find(near).copied()
}

/// Returns how many letters must be inserted, deleted or replaced to turn one word into another.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_from_other_names() {
        let known = ["pool", "dataPool", "mapOptions", "imageFeatures"];
        for (name, meant) in [
            ("datapool", Some("dataPool")),
            ("dataPol", Some("dataPool")),
            ("Pool", Some("pool")),
            ("imageFeature", Some("imageFeatures")),
            ("mapOption", Some("mapOptions")),
            ("unmapOptions", None),
            ("imageFormat", None),
            ("team", None),
            ("", None),
        ] {
            assert_eq!(super::meant(name, &known), meant, "{name}");
        }
        assert_eq!((distance("", "ab"), distance("kitten", "sitting")), (2, 3));
    }
}
