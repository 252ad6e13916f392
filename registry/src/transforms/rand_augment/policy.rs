use convmae_framework::component::Problem;
use convmae_framework::random::Rng;
use rand::Rng as _;
use rand_distr::StandardNormal;

/// The strongest magnitude.
pub const MAX_MAGNITUDE: f64 = 10.0;

/// Most operations an image.
const MAX_OPERATIONS: usize = 100;

/// What a policy string of timm says.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Mean of the magnitude.
    mean: f64,
    /// Its standard deviation.
    deviation: f64,
    /// Operations an image.
    pub operations: usize,
    /// Whether the effect of every operation grows with the magnitude.
    pub increasing: bool,
}

impl Policy {
    /// Reads timm's string: `rand-m9-mstd0.5-inc1`.
    ///
    /// # Errors
    /// A problem of the key `policy` that names the part which is not understood, and says what is.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let mut parts = text.split('-');
        let scheme = parts.next().unwrap_or_default();
        if scheme != "rand" {
            return Err(problem(format!("`{scheme}` is no kind of policy")));
        }
        let mut policy = Self { mean: MAX_MAGNITUDE, deviation: 0.0, operations: 2, increasing: false };
        let mut stated = Vec::new();
        for part in parts {
            let digit = part.find(|c: char| c.is_ascii_digit()).unwrap_or(part.len());
            let (name, value) = part.split_at(digit);
            if stated.contains(&name) {
                return Err(problem(format!("`{part}` states `{name}` a second time")));
            }
            stated.push(name);
            policy.set(part, name, value)?;
        }
        Ok(policy)
    }

    fn set(&mut self, part: &str, name: &str, value: &str) -> Result<(), Problem> {
        let wrong = |expected: &str| problem(format!("`{part}`: {expected}"));
        match name {
            "m" => {
                let magnitude =
                    value.parse().ok().filter(|&magnitude: &u8| f64::from(magnitude) <= MAX_MAGNITUDE);
                self.mean =
                    magnitude.ok_or_else(|| wrong("the magnitude is a whole number from 0 to 10"))?.into();
            }
            "n" => {
                let operations =
                    value.parse().ok().filter(|operations| (1..=MAX_OPERATIONS).contains(operations));
                self.operations = operations.ok_or_else(|| {
                    wrong(&format!("the number of operations is a whole one from 1 to {MAX_OPERATIONS}"))
                })?;
            }
            "mstd" => {
                let deviation = value.parse().ok().filter(|deviation: &f64| deviation.is_finite());
                self.deviation = deviation
                    .ok_or_else(|| wrong("the deviation is a number, such as the 0.5 of `mstd0.5`"))?;
            }
            // To timm 0.3.2, `inc0` is the same as `inc1`.
            "inc" if value == "1" => self.increasing = true,
            "inc" => return Err(wrong("`inc1` or nothing")),
            "w" => return Err(wrong("operations are drawn with equal probability, there are no weights")),
            _ => return Err(problem(format!("`{part}` is no part of a policy"))),
        }
        Ok(())
    }

    /// The magnitude of one operation on one image.
    pub fn magnitude(&self, rng: &mut Rng) -> f64 {
        if self.deviation == 0.0 {
            return self.mean;
        }
        let normal: f64 = rng.sample(StandardNormal);
        (self.mean + self.deviation * normal).clamp(0.0, MAX_MAGNITUDE)
    }
}

fn problem(message: String) -> Problem {
    Problem::new("policy", message).help(
        "`rand`, then any of `mN` (magnitude), `nN` (operations an image), `mstdX` (deviation of the magnitude) and `inc1` \
         (stronger with the magnitude), such as `rand-m9-mstd0.5-inc1`",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use convmae_framework::random::{self, Purpose};

    use super::*;

    #[test]
    fn the_policy_of_mae() {
        let policy = Policy::parse("rand-m9-mstd0.5-inc1").unwrap();
        assert_eq!(policy, Policy { mean: 9.0, deviation: 0.5, operations: 2, increasing: true });
    }

    #[test]
    fn parts_come_in_any_order_and_have_the_defaults_of_timm() {
        let policy = Policy::parse("rand-n3-m7").unwrap();
        assert_eq!(policy, Policy { mean: 7.0, deviation: 0.0, operations: 3, increasing: false });
        assert_eq!(Policy::parse("rand").unwrap().mean, 10.0);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, part) in [
            ("", "``"),
            ("augmix-m5", "`augmix`"),
            ("rand-", "``"),
            ("rand-x3", "`x3`"),
            ("rand-mstd", "`mstd`"),
            ("rand-m9.5", "`m9.5`"),
            ("rand-m11", "`m11`"),
            ("rand-m-1", "`m`"),
            ("rand-n0", "`n0`"),
            ("rand-n999999999999999999999", "`n999999999999999999999`"),
            ("rand-mstd1e999", "`mstd1e999`"),
            ("rand-inc0", "`inc0`"),
            ("rand-w0", "`w0`"),
            ("rand-m9-m8", "`m8`"),
            ("rand-é9", "`é9`"),
        ] {
            let problem = Policy::parse(text).unwrap_err();
            assert_eq!(problem.key, "policy");
            assert!(problem.message.contains(part), "{text}: {}", problem.message);
            assert!(problem.help.unwrap().contains("`mstdX`"));
        }
    }

    #[test]
    fn magnitudes_are_normal_and_clipped() {
        let policy = Policy::parse("rand-m9-mstd0.5-inc1").unwrap();
        let mut rng = random::stream(Purpose::Augment, &[1]);
        let drawn: Vec<_> = (0..4000).map(|_| policy.magnitude(&mut rng)).collect();
        let share = |test: fn(f64) -> bool| drawn.iter().filter(|&&m| test(m)).count() as f64 / 4000.0;
        assert!((0.012..0.035).contains(&share(|m| m == 10.0)), "two deviations above the mean");
        assert!((0.64..0.73).contains(&share(|m| (8.5..9.5).contains(&m))), "one deviation about the mean");
        assert_eq!(share(|m| (0.0..=10.0).contains(&m)), 1.0);
    }
}
