//! A line for each step, with its time.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The steps of a walkthrough.
pub struct Steps {
    started: Instant,
    done: u32,
}

impl Steps {
    pub fn new() -> Steps {
        Steps { started: Instant::now(), done: 0 }
    }

    /// Runs a step. Its error names it.
    pub fn run<T>(&mut self, title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let number = self.done + 1;
        println!("{:6.1} s  {number:2}. {title}", self.started.elapsed().as_secs_f64());
        let answer = work().with_context(|| format!("step {number} failed: {title}"))?;
        self.done = number;
        Ok(answer)
    }

    pub fn summary(&self) -> String {
        format!("{} steps in {:.0} s", self.done, self.started.elapsed().as_secs_f64())
    }
}

/// Shows what a step has seen.
pub fn seen(text: impl Display) {
    for line in text.to_string().lines() {
        println!("               {line}");
    }
}

/// Repeats a question until it has an answer. The last refusal says why there was none.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match ask() {
            Err(error) if started.elapsed() > limit => {
                return Err(error.context(format!("not within {limit:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(500)),
            answer => return answer,
        }
    }
}

/// Fails with a text unless something holds.
pub fn ensure(holds: bool, text: impl FnOnce() -> String) -> Result<()> {
    if !holds {
        bail!(text());
    }
    Ok(())
}
