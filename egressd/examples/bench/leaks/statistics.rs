//! Shares with their intervals, and quantiles.

use super::random::Random;

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    pub hits: usize,
    pub of: usize,
}

impl Share {
    /// In percent; 0 of nothing is 0.
    pub fn percent(self) -> f64 {
        100.0 * self.hits as f64 / self.of.max(1) as f64
    }

    /// The interval of Clopper and Pearson at 95 %, in percent: it assumes that trials are independent.
    pub fn interval(self) -> (f64, f64) {
        let low = match self.hits {
            0 => 0.0,
            hits => bisect(|p| tail(hits, self.of, p) < 0.025),
        };
        let high = match self.hits >= self.of {
            true => 1.0,
            false => bisect(|p| 1.0 - tail(self.hits + 1, self.of, p) > 0.025),
        };
        (100.0 * low, 100.0 * high)
    }
}

/// The 95 % interval, in percent, of a share whose trials come in groups (hours of an agent) that hang
/// together: groups are drawn again with replacement (Efron 1979), [`DRAWS`] times.
pub fn bootstrap(groups: &[Share], random: &mut Random) -> (f64, f64) {
    if groups.is_empty() {
        return (0.0, 0.0);
    }
    let mut draw = || {
        let drawn = (0..groups.len()).map(|_| groups[random.below(groups.len())]);
        let sum = drawn.fold((0, 0), |(hits, of), group| (hits + group.hits, of + group.of));
        Share { hits: sum.0, of: sum.1 }.percent()
    };
    let mut shares: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
    shares.sort_by(f64::total_cmp);
    (quantile(&shares, 0.025), quantile(&shares, 0.975))
}

/// Of `sorted` values; NaN of none.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
}

/// NaN of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// The chance of at least `hits` of `of` at `chance` each.
fn tail(hits: usize, of: usize, chance: f64) -> f64 {
    if chance <= 0.0 || chance >= 1.0 {
        return chance;
    }
    let odds = (chance / (1.0 - chance)).ln();
    let mut log_term = of as f64 * (1.0 - chance).ln();
    let mut below = 0.0;
    for count in 0..hits {
        below += log_term.exp();
        log_term += odds + ((of - count) as f64 / (count + 1) as f64).ln();
    }
    (1.0 - below).max(0.0)
}

/// Where `is_before` turns from true to false between 0 and 1.
fn bisect(is_before: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if is_before(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// Enough for two digits of a percentile.
const DRAWS: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_agree_with_published_ones() {
        let near = |(low, high): (f64, f64), expected: (f64, f64)| {
            assert!((low - expected.0).abs() < 0.01 && (high - expected.1).abs() < 0.01, "{low} {high}");
        };
        // 0 of n has the upper bound 1 - 0.025^(1/n), n of n the mirror of it.
        near(Share { hits: 0, of: 10 }.interval(), (0.0, 30.85));
        near(Share { hits: 10, of: 10 }.interval(), (69.15, 100.0));
        near(Share { hits: 4, of: 20 }.interval(), (5.73, 43.66));
        assert!(Share { hits: 0, of: 230_870 }.interval().1 < 0.0017);
    }

    #[test]
    fn groups_that_hang_together_widen_the_interval() {
        let random = || Random::of("statistics");
        let apart = vec![Share { hits: 1, of: 10 }; 50];
        let (low, high) = bootstrap(&apart, &mut random());
        assert_eq!((low, high), (10.0, 10.0));
        let mut together = vec![Share { hits: 0, of: 10 }; 45];
        together.extend([Share { hits: 10, of: 10 }; 5]);
        let (low, high) = bootstrap(&together, &mut random());
        assert!(low < 4.0 && high > 17.0, "{low} {high}");
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
