//! The recorded series of `tests/traces`: `corpus.csv` says what each of them is.

use super::{Label, Series};
use stanch::core::Sample;
use std::path::{Path, PathBuf};

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")
}

/// The series of a split, in the order of the list.
pub fn series(split: &str) -> Vec<Series> {
    let list = table(&folder().join("corpus.csv"));
    let of_split = list.iter().filter(|line| line("split") == Some(split));
    of_split.map(|line| listed(line, "command", &folder().join(split))).collect()
}

/// The series that `tests/traces/long.py` wrote into a folder, one at a time: they are large.
pub fn long(folder: PathBuf) -> impl Iterator<Item = Series> {
    let list = table(&folder.join("labels.csv"));
    list.into_iter().map(move |line| listed(&line, "shape", &folder))
}

/// The series of a line of a list.
fn listed(line: &dyn Fn(&str) -> Option<&'static str>, about: &str, folder: &Path) -> Series {
    let text = |name| line(name).unwrap_or_else(|| panic!("no {name}"));
    let name = text("name").to_owned();
    let samples = samples(&folder.join(format!("{name}.csv")));
    let mut series = Series {
        name,
        about: text(about).to_owned(),
        label: Label::Healthy,
        limit_kib: (text("limit_mib").parse::<f64>().unwrap() * 1024.0) as u64,
        warm_up_s: 60.0,
        samples,
    };
    match text("label") {
        "healthy" => {}
        "ambiguous" => series.label = Label::Ambiguous,
        "leak" => {
            let start_s = text("leak_start_s").parse().unwrap();
            series.label = Label::Leak { start_s, limit_s: limit_s(&series, start_s) };
        }
        other => panic!("no label {other}"),
    }
    series
}

/// When the limit is reached if the leak goes on as from its start to the end of the recording.
/// Of the start the level after ten seconds counts: a process boots first.
fn limit_s(series: &Series, start_s: f64) -> f64 {
    let from: Vec<_> = series.levels().filter(|(t_s, _)| *t_s >= start_s + 10.0).take(5).collect();
    let levels: Vec<_> = series.levels().collect();
    let mid = |points: &[(f64, f64)]| {
        let n = points.len() as f64;
        (
            points.iter().map(|point| point.0).sum::<f64>() / n,
            points.iter().map(|point| point.1).sum::<f64>() / n,
        )
    };
    let (first, last) = (mid(&from), mid(&levels[levels.len() - 5..]));
    let slope = (last.1 - first.1) / (last.0 - first.0);
    first.0 + (series.limit_kib as f64 - first.1) / slope
}

/// The rows of a CSV file without quotes, each as a look-up by column.
fn table(path: &Path) -> Vec<impl Fn(&str) -> Option<&'static str> + use<>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut lines = Box::leak(text.into_boxed_str()).lines();
    let head: Vec<&'static str> = lines.next().unwrap_or_default().split(',').collect();
    lines
        .map(|line| {
            let (head, cells) = (head.clone(), line.split(',').collect::<Vec<&'static str>>());
            move |name: &str| {
                let place = head.iter().position(|column| *column == name)?;
                cells.get(place).copied().filter(|cell| !cell.is_empty())
            }
        })
        .collect()
}

fn samples(path: &Path) -> Vec<(f64, Sample)> {
    let row = |cell: &dyn Fn(&str) -> Option<&'static str>| {
        let number = |name| cell(name)?.parse().ok();
        let sample = Sample {
            rss_kib: number("rss_kib"),
            rss_anon_kib: number("rss_anon_kib"),
            threads: number("threads"),
            fds: number("fds"),
            cpu_ticks: number("cpu_ticks"),
            load_rps: cell("load_rps").and_then(|rate| rate.parse().ok()),
            ..Sample::default()
        };
        (cell("t_s").unwrap().parse().unwrap(), sample)
    };
    table(path).iter().map(|cell| row(cell)).collect()
}
