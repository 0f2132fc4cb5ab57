//! The work of a benchmark, in the same order on each side.

/// A fixed sequence of reads and writes.
#[derive(Debug, Clone)]
pub struct Work {
    pub offsets: Vec<u64>,
    pub writes: Vec<bool>,
    pub block: usize,
    pub depth: usize,
}

/// The kinds of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Read,
    Write,
    /// Seven reads for three writes.
    Mixed,
}

impl Kind {
    /// Returns the name on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Mixed => "mixed",
        }
    }
}

impl Work {
    /// Returns `count` operations of `block` bytes on an image of `size` bytes.
    pub fn new(kind: Kind, random: bool, size: u64, block: usize, depth: usize, count: usize) -> Work {
        let blocks = size / block as u64;
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut dice = move || {
            // xorshift64*: it only has to look random.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
        };
        let offset =
            |n: usize, dice: u64| if random { dice % blocks } else { n as u64 % blocks } * block as u64;
        let offsets = (0..count).map(|n| offset(n, dice())).collect();
        let writes = (0..count)
            .map(|n| match kind {
                Kind::Read => false,
                Kind::Write => true,
                Kind::Mixed => n % 10 >= 7,
            })
            .collect();
        Work { offsets, writes, block, depth }
    }
}
