//! How a drill ended: what was seen and done, what it cost, and where it would have ended otherwise.

use super::story::{Sighting, Story};
use crate::cli::Failure;
use crate::cli::output::{Colour, Paint, Stop, heading, paragraph, print, row};
use crate::cli::stage::Folder;
use crate::cli::stage::load::Tally;
use crate::cli::stage::screen::mib;
use crate::core::IncidentId;
use crate::store::Reader;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// Everything that a drill has found.
pub(super) struct Report {
    /// What stanch saw and did.
    pub story: Story,
    /// What the visitors saw.
    pub tally: Tally,
    /// From the first visitor to the last.
    pub lasted: Duration,
    /// How many workers there were.
    pub workers: u32,
}

impl Report {
    /// What should have been seen and was not; empty when the drill has passed.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let story = &self.story;
        if story.confirmed.is_empty() {
            missing.push("no leak was confirmed".to_owned());
        }
        if !story.in_time {
            missing.push(match story.limit_reached_s {
                Some(at_s) => format!("a worker was over its limit after {at_s:.0} s, before any roll for the leak had ended"),
                None => "no roll for the leak came to its end".to_owned(),
            });
        }
        if !story.complete() {
            missing.push(format!(
                "{} of {} slots got a new worker because of the leak, in {:.0} s",
                story.slots_replaced(),
                self.workers,
                self.lasted.as_secs_f64()
            ));
        }
        match (self.tally.failed(), self.tally.ok) {
            (0, 0) => missing.push("no request was answered".to_owned()),
            (0, _) => {}
            (failed, _) => missing.push(format!("{failed} requests were lost")),
        }
        missing
    }

    /// Prints what happened.
    pub fn print_figures(&self) -> Result<(), Failure> {
        print(|out| self.write_figures(out, Paint::of_stdout()))
    }

    fn write_figures(&self, out: &mut dyn Write, paint: Paint) -> Result<(), Stop> {
        let (story, tally) = (&self.story, &self.tally);
        writeln!(out)?;
        heading(out, paint, "What happened")?;
        let seen = |seen: Option<&Sighting>| {
            let seen = seen?;
            let memory = seen.memory_kib.map_or(String::new(), |kib| {
                format!(" at {}, {:.0}% of its limit", mib(kib), story.percent(kib))
            });
            Some(format!("after {:.1} s: worker {}{memory}", seen.after_s, seen.slot))
        };
        let confirmed = story.first_confirmed();
        row(out, "leak suspected", seen(story.suspected.as_ref()))?;
        row(out, "leak confirmed", seen(confirmed))?;
        row(
            out,
            "growth",
            confirmed.and_then(|seen| {
                Some(format!(
                    "{:.1} MiB/s, full in {:.0} s",
                    seen.slope_kib_s? / 1024.0,
                    seen.eta_s?
                ))
            }),
        )?;
        row(out, "first replaced", story.first_replaced_s.map(|s| format!("after {s:.1} s")))?;
        let slots = format!("all {} replaced", self.workers);
        row(out, &slots, story.all_replaced_s.map(|s| format!("after {s:.1} s")))?;
        let peak = story.peak_kib.map(|kib| {
            let percent = story.percent(kib as f64);
            format!("{}, {percent:.0}% of its limit, was the most of any worker", mib(kib as f64))
        });
        row(out, "memory", peak)?;
        let cost = format!(
            "{} answered, {} failed, {} connections opened anew",
            tally.ok,
            tally.failed(),
            tally.reconnected
        );
        row(out, "requests", Some(cost))?;
        let latency = tally.latency_ms(0.5).zip(tally.latency_ms(0.99));
        let latency = latency.map(|(p50, p99)| format!("p50 {p50:.1} ms, p99 {p99:.1} ms"));
        row(out, "latency", latency)?;
        for trouble in story.troubles.iter().chain(&tally.errors) {
            row(out, &paint.text(Colour::Red, "trouble"), Some(trouble.clone()))?;
        }
        Ok(writeln!(out)?)
    }

    /// Prints where the same would have ended without stanch, and the verdict on the drill.
    pub fn print_comparison(&self) -> Result<(), Failure> {
        print(|out| self.write_comparison(out, Paint::of_stdout()))
    }

    fn write_comparison(&self, out: &mut dyn Write, paint: Paint) -> Result<(), Stop> {
        let limit = mib(self.story.limit_kib() as f64);
        let ends = self.story.without_stanch_s();
        if let (Some(first), Some(last)) = (ends.first(), ends.last()) {
            writeln!(out)?;
            heading(out, paint, "Without stanch")?;
            let others = match ends.len() {
                1 => String::new(),
                seen if seen == self.workers as usize => {
                    format!(", and all {seen} within {:.0} s of each other", last - first)
                }
                seen => format!(
                    ", and {seen} of {} within {:.0} s of each other",
                    self.workers,
                    last - first
                ),
            };
            let text = format!(
                "At this growth the first worker would have reached {limit} after {first:.0} s of \
                 load{others}. They share the requests, so they share the leak: to restart them all \
                 would only have bought the same time again."
            );
            paragraph(out, &text)?;
        }
        writeln!(out)?;
        let missing = self.missing();
        if missing.is_empty() {
            let seen = self.story.first_confirmed().and_then(|seen| seen.memory_kib);
            let at = seen.map_or(String::new(), |kib| {
                format!(" at {:.0}% of the way to the limit", self.story.percent(kib))
            });
            let text = format!(
                "leak seen{at}, {} workers replaced, no request of {} lost",
                self.story.workers_replaced,
                self.tally.requests()
            );
            writeln!(out, "{}", paint.text(Colour::Green, "Passed"))?;
            return paragraph(out, &text);
        }
        writeln!(out, "{}", paint.text(Colour::Red, "Failed"))?;
        for text in missing {
            paragraph(out, &text)?;
        }
        Ok(())
    }

    /// Prints everything as one JSON object.
    pub fn print_json(&self, folder: &Folder, kept: bool) -> Result<(), Failure> {
        let incident = match &self.story.incident {
            Some(id) => Reader::open(&folder.store())?.incident(&IncidentId(id.clone()))?,
            None => None,
        };
        let incident = serde_json::to_value(incident)
            .map_err(|error| Failure::Fault(format!("cannot write the incident: {error}")))?;
        let mut object = self.json();
        object["incident"] = incident;
        object["kept"] = kept.then(|| folder.path().display().to_string()).into();
        print(|out| Ok(writeln!(out, "{object}")?))
    }

    fn json(&self) -> Value {
        let (story, tally) = (&self.story, &self.tally);
        let seen = |seen: Option<&Sighting>| {
            seen.map(|seen| {
                json!({
                    "after_s": seen.after_s,
                    "slot": seen.slot,
                    "memory_kib": seen.memory_kib,
                    "limit_percent": seen.memory_kib.map(|kib| story.percent(kib)),
                    "slope_kib_s": seen.slope_kib_s,
                    "eta_s": seen.eta_s,
                })
            })
        };
        let ends = story.without_stanch_s();
        json!({
            "drill": "leak",
            "passed": self.missing().is_empty(),
            "missing": self.missing(),
            "lasted_s": self.lasted.as_secs_f64(),
            "workers": self.workers,
            "soft_limit_kib": story.limit_kib(),
            "suspected": seen(story.suspected.as_ref()),
            "confirmed": seen(story.first_confirmed()),
            "first_replaced_s": story.first_replaced_s,
            "all_replaced_s": story.all_replaced_s,
            "workers_replaced": story.workers_replaced,
            "slots_replaced": story.slots_replaced(),
            "rolls_finished": story.rolls_finished,
            "limit_reached_s": story.limit_reached_s,
            "peak_kib": story.peak_kib,
            "troubles": story.troubles,
            "requests": tally.json(),
            "without_stanch": { "first_full_s": ends.first(), "last_full_s": ends.last() },
        })
    }
}
