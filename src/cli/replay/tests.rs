use super::*;

fn judged(text: &str) -> Result<Report, TraceError> {
    let wishes = Wishes { limit_kib: Some(512 * 1024), warm_up: None };
    watch("a.csv", text.as_bytes(), wishes).map(|seen| Report::of("a.csv", &seen))
}

fn climb(from: u32, to: u32, kib_a_second: u32) -> String {
    (from..to).map(|t| format!("{t},{}\n", 100_000 + (t - from) * kib_a_second)).collect()
}

#[test]
fn a_leak_is_named_with_its_time_and_forecast() {
    let report = judged(&format!("t_s,rss_anon_kib\n{}", climb(0, 300, 1000))).unwrap();
    assert_eq!(report.verdict, "leak");
    let at = report.detected_at_s.unwrap();
    // The limit is reached at 424 s; a worker that young is only judged when that is four minutes ahead.
    assert!((184.0..=230.0).contains(&at), "{at}");
    assert!((report.slope_kib_s.unwrap() - 1000.0).abs() < 20.0);
    let end = at + report.eta_s.unwrap();
    assert!((end - 424.0).abs() < 10.0, "{end}");
    assert_eq!(report.kind, Some("steady"));
}

#[test]
fn constant_memory_is_healthy() {
    let report = judged(&format!("t_s,rss_anon_kib\n{}", climb(0, 300, 0))).unwrap();
    assert_eq!((report.verdict, report.detected_at_s), ("healthy", None));
}

#[test]
fn a_few_samples_are_unjudged() {
    let report = judged("t_s,rss_kib\n0,1000\n1,2000\n").unwrap();
    assert_eq!(report.verdict, "unjudged");
    assert!(report.reason.contains("warm-up"), "{}", report.reason);
    assert_eq!(judged("t_s,rss_kib\n").unwrap().reason, "no samples");
}

#[test]
fn errors_name_file_and_line() {
    let message = |text: &str| chain(&judged(text).err().unwrap());
    assert!(message("").starts_with("a.csv: is empty"));
    assert!(message("rss_kib\n1\n").starts_with("a.csv, line 1: no column t_s"));
    assert!(message("t_s,threads\n1,2\n").starts_with("a.csv, line 1: no memory column"));
    assert_eq!(
        message("t_s,rss_kib\n0,1\n1,two\n"),
        "a.csv, line 3, column 3: rss_kib is \"two\", which is not a number of 0 or more"
    );
    assert!(message("t_s,rss_kib\n,1\n").contains("line 2, column 1: t_s is \"\""));
    assert!(message("t_s,rss_kib\n0,NaN\n").contains("line 2, column 3: rss_kib"));
    assert!(message("t_s,rss_kib\n10,\"1\n").contains("line 2, column 4: the quote"));
    assert!(message("t_s,rss_kib,rss_kib\n").contains("line 1, column 13: rss_kib is named twice"));
    assert!(message("t_s,rss_kib\n0,1\n1\n").contains("line 3: 1 fields, but the header names 2"));
}

#[test]
fn columns_may_stand_in_any_order_and_be_unknown_or_empty() {
    let mut text = String::from("\u{feff}colour, rss_anon_kib ,cpu_ticks,\"t_s\"\r\n");
    for t in 0..300 {
        text.push_str(&format!("\"red, \"\"dark\"\"\",\"{}\",,{t}\r\n", 100_000 + t * 1000));
    }
    assert_eq!(judged(&text).unwrap().verdict, "leak");
}

#[test]
fn what_the_trace_was_judged_by_live_holds_unless_told_otherwise() {
    // 7 MiB in 300 s: next to nothing on the way to 512 MiB, and a quarter of the way to 128 MiB.
    let rows = climb(0, 300, 25).replace('\n', ",,\n").replacen(",,\n", ",131072,20\n", 1);
    let text = format!("t_s,rss_anon_kib,limit_kib,warm_up_s\n{rows}");
    assert_ne!(judged(&text).unwrap().verdict, "leak", "the command line says 512 MiB");
    let seen = watch("a.csv", text.as_bytes(), Wishes::default()).unwrap();
    let report = Report::of("a.csv", &seen);
    assert_eq!(report.verdict, "leak");
    let end = report.detected_at_s.unwrap() + report.eta_s.unwrap();
    assert!((end - 1242.9).abs() < 20.0, "{end}");
}

#[test]
fn time_that_goes_back_is_counted_and_does_not_end_the_judging() {
    let rows = climb(0, 100, 0) + &climb(20, 320, 1000);
    let report = judged(&format!("t_s,rss_anon_kib\n{rows}")).unwrap();
    assert_eq!(report.verdict, "leak");
    assert!(report.reason.ends_with("(time went back 1 times)"), "{}", report.reason);
}

#[test]
fn dates_are_not_ages() {
    // By age this worker would be fifty years old and out of its warm-up.
    let report = judged("t_s,rss_kib\n1800000000,1000\n1800000001,2000\n").unwrap();
    assert!(report.reason.contains("warm-up for 59 s"), "{}", report.reason);
}

#[test]
fn sizes_and_durations_need_a_unit() {
    assert_eq!(size_kib("512MiB"), Ok(512 * 1024));
    assert_eq!(size_kib("1.5 GiB"), Ok(1536 * 1024));
    assert!(size_kib("512").unwrap_err().contains("512MiB"));
    assert!(size_kib("MiB").is_err() && size_kib("5 bushels").is_err());
    assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
    assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5400)));
    assert!(duration("60").is_err());
}

#[test]
fn a_picture_has_all_that_was_seen_and_stays_small() {
    let text = format!("t_s,rss_anon_kib\n{}{}", climb(0, 20_000, 0), climb(20_000, 20_300, 1000));
    let wishes = Wishes { limit_kib: Some(512 * 1024), warm_up: None };
    let seen = watch("a<b>.csv", text.as_bytes(), wishes).unwrap();
    let words: Vec<_> = seen.changes.iter().map(|c| c.judgement.verdict.as_str()).collect();
    assert_eq!((words[0], words.last()), ("healthy", Some(&"leak")));
    let svg = plot::draw("a<b>.csv", "because", &seen);
    for part in [
        "class=\"series\"",
        "class=\"floor\"",
        "class=\"trend\"",
        "class=\"fan\"",
        ">limit 512 MiB<",
        ">leak<",
        "a&lt;b&gt;.csv",
        "prefers-color-scheme: dark",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    assert!(svg.len() < 60_000, "{} bytes for 20,300 samples", svg.len());
    // Nothing to draw is no fault.
    let empty = watch("a.csv", "t_s,rss_kib\n".as_bytes(), wishes).unwrap();
    assert!(plot::draw("empty", "no samples", &empty).ends_with("</svg>\n"));
}
