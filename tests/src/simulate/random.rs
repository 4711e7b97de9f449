//! Numbers that look like chance and are the same for the same seed.

/// A generator (SplitMix64; Steele, Lea, Flood 2014): one word of state, so that every host, workload and day can have its own
/// and none depends on what another one drew.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of `seed` for one `stream` (host, workload, day, …).
    #[must_use]
    pub fn of(seed: u64, stream: &[u64]) -> Self {
        let mut random = Self(seed);
        for part in stream {
            random.0 = random.next() ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        random
    }

    /// Sixty-four bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// From 0 up to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Below `most`; 0 when that is 0.
    pub const fn below(&mut self, most: u64) -> u64 {
        if most == 0 { 0 } else { self.next() % most }
    }

    /// Below `most`, as an index.
    #[expect(clippy::cast_possible_truncation, reason = "an index below a length")]
    pub const fn index(&mut self, most: usize) -> usize {
        self.below(most as u64) as usize
    }

    /// One byte.
    #[expect(clippy::cast_possible_truncation, reason = "the low byte is what is asked for")]
    pub const fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// Between the two.
    pub fn between(&mut self, least: f64, most: f64) -> f64 {
        least + self.unit() * (most - least)
    }

    /// Between the two, every order of magnitude alike.
    pub fn magnitude(&mut self, least: f64, most: f64) -> f64 {
        self.between(least.ln(), most.ln()).exp()
    }

    /// Waiting time of a Poisson process with this mean.
    pub fn waiting(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.index(of.len())]
    }
}
