//! Changes an input a little, from a seed: for the bounded run that needs no instrumented build.

/// Longest input that is made: readers meet their limits of counts and depth well below.
const BYTES_MAX: usize = 64 * 1024;
/// Values at which arithmetic and tables of bytes break.
const TELLING: [u8; 16] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'{', b'}', b'[', b']', b',', b':', b'-', b'e', b'\n'];

/// Sebastiano Vigna's splitmix64: the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Source(u64);

impl Source {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; zero when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        usize::try_from(self.next().checked_rem(end).unwrap_or(0)).unwrap_or(0)
    }
}

/// A changed copy of one of `seeds`, sometimes with a piece of another.
pub fn changed(seeds: &[Vec<u8>], source: &mut Source) -> Vec<u8> {
    let mut input = seeds.get(source.below(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..=source.below(6) {
        change(&mut input, seeds, source);
    }
    input.truncate(BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], source: &mut Source) {
    let at = source.below(input.len().max(1));
    match source.below(8) {
        0 => set(input, at, |byte| byte ^ (1 << (at & 7))),
        1 => {
            let telling = TELLING.get(source.below(TELLING.len())).copied().unwrap_or(0);
            set(input, at, |_| telling);
        }
        2 => {
            let step = u8::try_from(source.below(32)).unwrap_or(0);
            set(input, at, |byte| byte.wrapping_add(step).wrapping_sub(16));
        }
        3 => input.truncate(at),
        4 => {
            let end = at.saturating_add(1 + source.below(16)).min(input.len());
            input.drain(at.min(end)..end);
        }
        5 => {
            let end = at.saturating_add(1 + source.below(64)).min(input.len());
            let piece = input.get(at..end).unwrap_or_default().repeat(1 + source.below(8));
            input.splice(at.min(input.len())..at.min(input.len()), piece);
        }
        6 => {
            let other = seeds.get(source.below(seeds.len())).map(Vec::as_slice).unwrap_or_default();
            let from = source.below(other.len().max(1));
            let piece = other.get(from..(from + 1 + source.below(64)).min(other.len())).unwrap_or_default().to_vec();
            input.splice(at.min(input.len())..at.min(input.len()), piece);
        }
        _ => {
            let telling = TELLING.get(source.below(TELLING.len())).copied().unwrap_or(0);
            input.insert(at.min(input.len()), telling);
        }
    }
}

fn set(input: &mut [u8], at: usize, to: impl FnOnce(u8) -> u8) {
    if let Some(byte) = input.get_mut(at) {
        *byte = to(*byte);
    }
}
