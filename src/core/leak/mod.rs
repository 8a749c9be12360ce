//! Leak detection.
use super::{Moment, Now, Sample};
use std::time::Duration;
/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// x
    Unjudged,
    /// x
    Healthy,
    /// x
    Suspect,
    /// x
    Leak,
}
/// x
#[derive(Debug)]
pub struct DetectorSettings {
    /// x
    pub limit_kib: Option<u64>,
    /// x
    pub warm_up: Duration,
}
/// x
#[derive(Debug)]
pub struct Judgement {
    /// x
    pub verdict: Verdict,
    /// x
    pub slope_kib_s: Option<f64>,
    /// x
    pub eta: Option<Duration>,
    /// x
    pub confidence: f64,
}
/// x
#[derive(Debug)]
pub struct Detector {
    j: Judgement,
}
impl Detector {
    /// x
    pub fn new(_s: DetectorSettings) -> Self {
        Self {
            j: Judgement {
                verdict: Verdict::Unjudged,
                slope_kib_s: None,
                eta: None,
                confidence: 0.0,
            },
        }
    }
    /// x
    pub fn observe(&mut self, _at: Moment, _s: &Sample) {}
    /// x
    pub fn judgement(&self) -> &Judgement {
        &self.j
    }
    /// x
    pub fn reason(&self, _now: Now) -> String {
        String::new()
    }
}
