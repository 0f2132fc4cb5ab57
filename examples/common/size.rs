//! Sizes in the notation of the `rbd` command.

/// Reads an image size: `1024` and `1024M` are 1 GiB, as is `1G`; `B`, `K`, `M`, `G`, `T`, `P`,
/// `E`.
pub fn size(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(mebibytes) => scaled(mebibytes, 20, text),
        Err(_) => bytes(text),
    }
}

/// Reads a number of bytes: `4096` or `4K`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "Ki" | "KB" => 10,
        "M" | "Mi" | "MB" => 20,
        "G" | "Gi" | "GB" => 30,
        "T" | "Ti" | "TB" => 40,
        "P" | "Pi" | "PB" => 50,
        "E" | "Ei" | "EB" => 60,
        unit => return Err(format!("'{unit}' is no unit: B, K, M, G, T, P and E are, as powers of 1024")),
    };
    match digits.parse::<u64>() {
        Ok(number) => scaled(number, shift, text),
        Err(error) => Err(format!("'{digits}': {error}")),
    }
}

fn scaled(number: u64, shift: u32, text: &str) -> Result<u64, String> {
    // librbd's sizes are signed internally.
    let value = i64::try_from(u128::from(number) << shift);
    value.map(i64::unsigned_abs).map_err(|_| format!("'{text}' is more than 8 EiB"))
}

/// Formats a size with at most three digits, if they are enough: `1.5 GiB`.
pub fn iec(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let step = bytes.checked_ilog2().unwrap_or(0) / 10;
    let (unit, scale) = (UNITS[step as usize], 1_u64 << (10 * step));
    if bytes % scale == 0 {
        return format!("{} {unit}", bytes / scale);
    }
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    let value = bytes as f64 / scale as f64;
    let short = format!("{value:.1} {unit}");
    if short.len() <= 7 { short } else { format!("{value:.0} {unit}") }
}
