//! What to do about each kind of incident: a page for the one who is on call.

/// The page of a kind of incident, Markdown: what it means, what stanch did, what to look at, how to
/// fix it.
pub fn of(kind: &str) -> Option<&'static str> {
    PAGES.iter().find(|(name, _)| *name == kind).map(|(_, page)| *page)
}

/// The headings of a page under which lists stand.
pub const LISTS: [&str; 2] = ["What to look at", "How to fix it"];

/// The heading of a page.
pub(super) fn title(page: &str) -> &str {
    page.lines().next().unwrap_or_default().trim_start_matches("# ")
}

/// The paragraph under a heading of a page.
pub(super) fn paragraph(page: &'static str, heading: &str) -> String {
    lines(page, heading).flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

/// The list under a heading of a page.
pub fn items(page: &'static str, heading: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in lines(page, heading) {
        match line.strip_prefix("- ") {
            Some(item) => items.push(item.to_owned()),
            None if !line.trim().is_empty() => {
                if let Some(last) = items.last_mut() {
                    last.push(' ');
                    last.push_str(line.trim());
                }
            }
            None => {}
        }
    }
    items
}

fn lines(page: &'static str, heading: &str) -> impl Iterator<Item = &'static str> {
    let below = page.lines().skip_while(move |line| line.strip_prefix("## ") != Some(heading));
    below.skip(1).take_while(|line| !line.starts_with("## "))
}

const PAGES: &[(&str, &str)] = &[
    ("leak", include_str!("runbooks/leak.md")),
    ("memory_limit", include_str!("runbooks/memory_limit.md")),
    ("crash", include_str!("runbooks/crash.md")),
    ("crash_loop", include_str!("runbooks/crash_loop.md")),
    ("hang", include_str!("runbooks/hang.md")),
    ("start_failure", include_str!("runbooks/start_failure.md")),
    ("roll_failure", include_str!("runbooks/roll_failure.md")),
];
