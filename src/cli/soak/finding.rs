//! What a soak has found.

use super::super::Failure;
use super::super::output::{Colour, Paint, Stop, clean, heading, paragraph, print, row};
use super::super::stage::load::Tally;
use super::super::stage::screen::mib;
use super::course::{Outcome, Sizes};
use crate::core::leak::{Dial, Verdict};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Where more than one in so many requests fails, the server does not do what it is to be judged by.
const FAILED_PART: u64 = 10;

/// Everything that is known at the end.
pub struct Finding {
    pub course: Outcome,
    /// What grew since the warm-up, in words.
    pub grew: Option<String>,
    /// What came of the requests, unless others asked.
    pub tally: Option<Tally>,
    pub lasted: Duration,
    /// How long it was to last.
    pub length: Duration,
    /// How many requests had been answered at half-time.
    pub half_time: Option<u64>,
    /// Why it ended early, and the last that the server printed.
    pub broken: Option<(String, Vec<String>)>,
    /// Who was asked.
    pub address: Option<SocketAddr>,
}

impl Finding {
    /// Whether nothing speaks against the server.
    pub fn is_well(&self) -> bool {
        self.course.judgement.verdict != Verdict::Leak && self.failure().is_none()
    }

    /// What it failed by, other than a leak.
    fn failure(&self) -> Option<String> {
        if let Some((why, _)) = &self.broken {
            let after = self.lasted.as_secs();
            return Some(format!("the server failed after {after} s: {why}"));
        }
        let tally = self.tally.as_ref()?;
        if tally.failed() * FAILED_PART > tally.requests() {
            return Some(format!("{} of {} requests failed", tally.failed(), tally.requests()));
        }
        let before = self.half_time?;
        let after = tally.ok - before;
        (after < before / 2).then(|| {
            format!("the server answered {before} requests in the first half of the time, {after} in the second")
        })
    }

    /// Of the whole, as `stanch replay` would say it: what is suspect was not decided. And what grows to the end
    /// is not healthy here, however little of a limit it is.
    fn verdict(&self) -> Verdict {
        match self.course.judgement.verdict {
            Verdict::Leak => Verdict::Leak,
            Verdict::Healthy if self.failure().is_none() && self.course.doubt.is_none() => {
                Verdict::Healthy
            }
            Verdict::Healthy | Verdict::Suspect | Verdict::Unjudged => Verdict::Unjudged,
        }
    }

    fn answered_rps(&self) -> Option<f64> {
        Some(self.tally.as_ref()?.ok as f64 / self.lasted.as_secs_f64())
    }

    /// What each request leaves behind, of a leak of memory.
    fn kib_per_request(&self) -> Option<f64> {
        let judgement = &self.course.judgement;
        let rps = self.answered_rps().filter(|rps| *rps > 0.0)?;
        let slope_kib_s = judgement.slope_kib_s()?;
        (judgement.verdict == Verdict::Leak).then_some(slope_kib_s / rps)
    }

    /// Prints it for people.
    pub fn print(&self) -> Result<(), Failure> {
        print(|out| self.write(out, Paint::of_stdout()))
    }

    fn write(&self, out: &mut dyn Write, paint: Paint) -> Result<(), Stop> {
        let Outcome { judgement, sizes, .. } = &self.course;
        writeln!(out)?;
        heading(out, paint, "What was seen")?;
        row(out, "time", Some(format!("{} s", self.lasted.as_secs())))?;
        if let (Some(tally), Some(rps)) = (&self.tally, self.answered_rps()) {
            let text =
                format!("{} answered ({rps:.1} a second), {} failed", tally.ok, tally.failed());
            row(out, "requests", Some(text))?;
            for error in &tally.errors {
                row(out, &paint.text(Colour::Red, "trouble"), Some(error.clone()))?;
            }
        }
        row(out, "memory", said(sizes))?;
        let kind = judgement.kind.map_or(String::new(), |kind| format!(" ({})", kind.as_str()));
        let reason = judgement.reason(Dial::Trace);
        row(out, "judged", Some(format!("{}{kind}: {reason}", judgement.verdict.as_str())))?;
        if let Some(kib) = self.kib_per_request() {
            row(out, "a request", Some(format!("leaves {kib:.2} KiB behind")))?;
        }
        if let Some(grew) = &self.grew {
            row(out, "grew most", Some(grew.clone()))?;
        }
        let said = self.broken.iter().flat_map(|(_, said)| said);
        for (nth, line) in said.enumerate() {
            row(out, if nth == 0 { "it printed last" } else { "" }, Some(clean(line)))?;
        }
        writeln!(out)?;
        let (colour, word, text) = self.conclusion();
        writeln!(out, "{}", paint.text(colour, word))?;
        paragraph(out, &text)
    }

    fn conclusion(&self) -> (Colour, &'static str, String) {
        let what = self.course.judgement.quantity().noun();
        match (self.verdict(), self.failure()) {
            (Verdict::Leak, _) => (Colour::Red, "Leak", format!("the server leaks {what}")),
            (_, Some(failure)) => (Colour::Red, "Failed", failure),
            (Verdict::Healthy, None) => {
                (Colour::Green, "No leak", format!("none shows in {} s", self.length.as_secs()))
            }
            (Verdict::Suspect | Verdict::Unjudged, None) => {
                let doubt = self.course.doubt.as_ref().map(|doubt| format!(": {doubt}"));
                let text = format!(
                    "it is not sure whether the server leaks{}; a longer soak (--for) or more requests \
                     (--rate) would tell",
                    doubt.unwrap_or_default()
                );
                (Colour::Yellow, "Undecided", text)
            }
        }
    }

    /// Prints everything as one JSON object.
    pub fn print_json(&self) -> Result<(), Failure> {
        let object = self.json();
        print(|out| Ok(writeln!(out, "{object}")?))
    }

    fn json(&self) -> Value {
        let Outcome { judgement, sizes, doubt, .. } = &self.course;
        let leaks = judgement.verdict == Verdict::Leak;
        json!({
            "verdict": self.verdict().as_str(),
            "quantity": judgement.quantity().as_str(),
            "detected_at_s": leaks.then(|| judgement.at.as_secs_f64()),
            "slope_kib_s": judgement.slope_kib_s(),
            "kind": judgement.kind.map(|kind| kind.as_str()),
            "reason": judgement.reason(Dial::Trace),
            "kib_per_request": self.kib_per_request(),
            "grew": self.grew,
            "doubt": doubt,
            "failure": self.failure(),
            "last_output": self.broken.as_ref().map(|(_, said)| said),
            "address": self.address,
            "lasted_s": self.lasted.as_secs_f64(),
            "first_kib": sizes.first_kib,
            "last_kib": sizes.last_kib,
            "most_kib": sizes.most_kib,
            "requests": self.tally.as_ref().map(Tally::json),
        })
    }
}

fn said(sizes: &Sizes) -> Option<String> {
    let in_mib = |kib: Option<u64>| kib.map(|kib| mib(kib as f64));
    let (first, last) = (in_mib(sizes.first_kib)?, in_mib(sizes.last_kib)?);
    Some(format!("{first} when ready, {last} at the end, {} at most", in_mib(sizes.most_kib)?))
}
