//! Statistics of many rounds. The tests run with `tests/it`, because a bench has none.

/// Returns lower quartile, median and upper quartile.
pub fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
    [at(0.25), at(0.5), at(0.75)]
}

/// Returns the 95 % confidence interval of the median, with the median of these values in the
/// middle. It uses the ranks of the values, so it is valid for any distribution.
pub fn interval(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let low = ((count - 1.0 - 1.96 * count.sqrt()) / 2.0).floor().max(0.0) as usize;
    [values[low], values[values.len() / 2], values[values.len() - 1 - low]]
}

#[cfg(test)]
mod tests {
    // With full names, because a bench without a harness is compiled as a test, but without these
    // functions.
    #[test]
    fn quartiles_cut_in_four() {
        assert_eq!(super::quartiles([9.0, 1.0, 5.0, 3.0, 7.0].into_iter()), [3.0, 5.0, 7.0]);
        assert_eq!(super::quartiles([2.0].into_iter()), [2.0; 3]);
    }

    /// The ranks are those of the sign test: of 15 values the 4th and the 12th (96.5 %), of 201 the
    /// 87th and the 115th (95.2 %).
    #[test]
    fn the_interval_has_the_ranks_of_the_sign_test() {
        let downwards = |count: u32| (1..=count).rev().map(f64::from);
        assert_eq!(super::interval(downwards(15)), [4.0, 8.0, 12.0]);
        assert_eq!(super::interval(downwards(201)), [87.0, 101.0, 115.0]);
        assert_eq!(super::interval(downwards(1)), [1.0; 3]);
    }
}
