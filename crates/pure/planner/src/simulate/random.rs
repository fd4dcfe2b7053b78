//! Chance from a seed: xoshiro256++ of Blackman and Vigna, seeded by splitmix64.

/// A stream of numbers that a seed and a purpose decide.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Random {
    state: [u64; 4],
}

impl Random {
    /// Streams of different purposes have nothing to do with each other.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut mixed = seed ^ purpose.wrapping_mul(0xd134_2543_de82_ef95);
        Self { state: [(); 4].map(|()| split(&mut mixed)) }
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = self.state;
        let result = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
        let (c, d) = (c ^ a, d ^ b);
        self.state = [a ^ d, b ^ c, c ^ (b << 17), d.rotate_left(45)];
        result
    }

    /// From 0, without 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// With mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    /// With mean 0 and deviation 1, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

fn split(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_means() {
        let mut random = Random::new(7, 1);
        let mean = |mut draw: Box<dyn FnMut() -> f64>| (0..100_000).map(|_| draw()).sum::<f64>() / 100_000.0;
        let mut other = random.clone();
        assert!((mean(Box::new(move || other.uniform())) - 0.5).abs() < 0.005);
        let mut other = Random::new(7, 2);
        assert!((mean(Box::new(move || other.exponential())) - 1.0).abs() < 0.02);
        assert!(mean(Box::new(move || random.normal())).abs() < 0.02);
    }

    #[test]
    fn the_generator_is_the_published_one() {
        // First outputs of xoshiro256++ for the state 1, 2, 3, 4, as its authors' code gives them.
        let mut random = Random { state: [1, 2, 3, 4] };
        let first = [(); 4].map(|()| random.next());
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }
}
