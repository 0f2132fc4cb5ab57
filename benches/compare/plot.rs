//! Plots: bars of medians, with whiskers between the quartiles.

use std::fmt::Write as _;

pub fn bars(title: &str, bars: &[(&str, [f64; 3])]) -> String {
    let most = bars.iter().map(|(_, quartiles)| quartiles[2]).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| 190.0 + value / most * 480.0;
    let height = 40 + bars.len() * 28;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"790\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" \
             fill=\"white\"/>\n<text x=\"8\" y=\"20\">{title}</text>\n"
    );
    for (row, (name, [low, mid, high])) in bars.iter().enumerate() {
        let y = 36 + row * 28;
        let color = if name.starts_with("rbd,") { "#b7410e" } else { "#8899aa" };
        let (start, end, middle) = (x(0.0), x(*mid), y + 10);
        let _ = writeln!(
            svg,
            "<text x=\"8\" y=\"{}\">{name}</text>\n<rect x=\"{start:.1}\" y=\"{y}\" \
             width=\"{:.1}\" height=\"20\" fill=\"{color}\"/>\n<path d=\"M{:.1} {middle}H{:.1}\" \
                 stroke=\"black\"/>\n<text x=\"{:.1}\" y=\"{}\">{mid:.1}</text>",
            y + 14,
            end - start,
            x(*low),
            x(*high),
            x(*high) + 6.0,
            y + 14
        );
    }
    svg + "</svg>\n"
}
