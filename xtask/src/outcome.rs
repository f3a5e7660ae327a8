//! How many tests passed, read from what a test runner prints.

/// Counts of one run. A run that printed no summary has counted nothing and is no success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl Outcome {
    /// Takes in one line of output; any line but a summary changes nothing.
    ///
    /// Two summaries are known: `test result: ok. 3 passed; 1 failed; …` of `cargo test`, one per program, and
    /// `Summary [ 1.2s] 4 tests run: 3 passed, 1 failed, …` of nextest, one per run.
    pub(crate) fn read(&mut self, line: &str) {
        // nextest indents what a failed test printed, and with it a summary of that one test.
        let counts = if let Some(rest) = line.strip_prefix("test result: ") {
            rest
        } else if line.trim_start().starts_with("Summary [") {
            line.rsplit_once(" run: ").map_or("", |(_, counts)| counts)
        } else {
            return;
        };
        let words: Vec<&str> =
            counts.split([' ', ';', ',', '(', ')']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(count) = pair[0].parse::<u32>() else { continue };
            match pair[1] {
                "passed" => self.passed += count,
                // nextest: "1 timed out", "1 exec failed" are beside "1 failed"
                "failed" | "timed" | "exec" => self.failed += count,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    fn read(lines: &[&str]) -> Outcome {
        let mut outcome = Outcome::default();
        for line in lines {
            outcome.read(line);
        }
        outcome
    }

    #[test]
    fn summaries_of_several_programs_add_up() {
        let outcome = read(&[
            "running 3 tests",
            "test a_thing_holds ... ok",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 4 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ]);
        assert_eq!(outcome, Outcome { passed: 7, failed: 2 });
    }

    #[test]
    fn a_timed_out_test_of_nextest_has_failed() {
        let outcome = read(&[
            "     Summary [   9.404s] 26 tests run: 23 passed (1 slow), 2 failed, 1 timed out, 4 skipped",
        ]);
        assert_eq!(outcome, Outcome { passed: 23, failed: 3 });
    }

    #[test]
    fn what_nextest_repeats_of_a_failed_test_is_not_counted_again() {
        let outcome = read(&[
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 27 filtered out; finished in 0.89s",
            "     Summary [   9.404s] 28 tests run: 27 passed, 1 failed, 0 skipped",
        ]);
        assert_eq!(outcome, Outcome { passed: 27, failed: 1 });
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(read(&["error: 3 passed", "12 failed", "Summary of it"]), Outcome::default());
    }
}
