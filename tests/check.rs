//! `stanch check` as a person or a script meets it: exit codes, standard error, JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn check(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stanch"))
        .arg("check")
        .args(arguments)
        .env("PATH", "/nowhere")
        .output()
        .expect("the binary runs")
}

/// Exit code, standard output, standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A file of this content, and its folder, which goes away with it.
fn file(content: impl AsRef<[u8]>) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("app.toml");
    fs::write(&path, content).expect("the file is written");
    (folder, path.to_str().expect("a UTF-8 path").to_owned())
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn every_error_is_a_line_and_the_exit_code_is_2() {
    let (_folder, path) = file("[app]\nworkers = 0\n[memory]\nsoft_limt = \"1GiB\"\n");
    let (code, stdout, stderr) = said(&check(&[&path]));
    assert_eq!(code, Some(2));
    assert_eq!(stdout, "");
    let expected = format!(
        "{path}:2:11: app.workers: must be between 1 and 1024, not 0\n\
         {path}:4:1: memory.soft_limt: unknown key (did you mean soft_limit?)\n\
         {path}: app.command: no command to run; write command = [\"node\", \"server.js\"] in [app], \
         or give it at the end of the command line, after --\n\
         stanch: {path} has 3 errors\n"
    );
    assert_eq!(stderr, expected);
}

#[test]
fn errors_are_json_on_request() {
    let (_folder, path) = file("app.command = [\"x\"]\nmemory.soft_limit = 512\n= 1\n");
    let output = check(&["--json", &path]);
    assert_eq!(output.status.code(), Some(2));
    let expected = serde_json::json!({ "ok": false, "errors": [
        {
            "line": 2, "column": 21, "key": "memory.soft_limit",
            "message": "512 has no unit", "suggestion": "512MiB",
        },
        {
            "line": 3, "column": 1, "key": null,
            "message": "not valid TOML: unquoted keys cannot be empty, expected letters, numbers, \
                        `-`, `_`",
            "suggestion": null,
        },
    ] });
    assert_eq!(json(&output), expected);
}

#[test]
fn a_right_one_is_told_back() {
    let (_folder, path) = file(
        "[app]\ncommand = [\"/bin/sh\", \"-c\", \"exec sleep 1\"]\nname = \"shop\"\nworkers = 4\n\
         release = \"7\"\n[listen]\naddress = [\"127.0.0.1:80\", \"[::1]:80\"]\n[memory]\n\
         soft_limit = \"400MiB\"\nhard_limit = \"512MiB\"\ntotal_limit = \"2GiB\"\n[rolling]\n\
         max_age = \"7d\"\n[health]\npath = \"/health\"\n",
    );
    let (code, stdout, stderr) = said(&check(&[&path]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let expected = format!(
        "{path}: ok
  app      shop, release 7
  command  /bin/sh -c \"exec sleep 1\"
  workers  4
  listen   127.0.0.1:80, [::1]:80 (takeover)
  ready    when it accepts a connection, within 1m
  health   GET /health every 10s, 5s to answer; hung after 3 failures in a row
  memory   a worker is replaced over 400MiB, killed over 512MiB, all together kept below 2GiB
  leak     judged from the age of 1m; replaced at the latest 10m before the limit would be reached
  rolling  replacement first, 30s to finish requests, each worker at the age of 7d
"
    );
    assert_eq!(stdout, expected);
    let output = check(&["--json", &path]);
    assert_eq!((output.status.code(), json(&output)), (Some(0), serde_json::json!({ "ok": true })));
}

#[test]
fn what_only_this_host_lacks_is_a_warning() {
    let (folder, path) = file(
        "[app]\ncommand = [\"server-that-is-nowhere\"]\ndirectory = \"work\"\nuser = \"nobody-here\"\n\
         group = \"no-group-here\"\nworkers = 3\n[memory]\nsoft_limit = \"1GiB\"\n\
         total_limit = \"2GiB\"\n",
    );
    let (code, _, stderr) = said(&check(&[&path]));
    assert_eq!(code, Some(0));
    let work = folder.path().join("work");
    let expected = [
        format!("app.directory: no directory {} here", work.display()),
        "app.user: no user nobody-here here".to_owned(),
        "app.group: no group no-group-here here".to_owned(),
        "app.command: no program server-that-is-nowhere in PATH here".to_owned(),
        "memory.total_limit: 2GiB is less than 3 workers may have together below their soft limits, \
         3GiB"
            .to_owned(),
    ];
    let expected: String =
        expected.iter().map(|warning| format!("{path}: warning: {warning}\n")).collect();
    assert_eq!(stderr, expected);
}

#[test]
fn a_program_is_looked_for_as_a_worker_would() {
    for (config, warning) in [
        ("command = [\"sh\"]", "no program sh in PATH here"),
        ("command = [\"sh\"]\nenvironment.PATH = \"/nowhere:/bin\"", ""),
        ("command = [\"./app.toml\"]\ndirectory = \".\"", "app.toml cannot be executed here"),
        ("command = [\"bin/none\"]\ndirectory = \"/\"", "/bin/none does not exist here"),
        ("command = [\"bin/sh\"]\ndirectory = \"/\"", ""),
        ("command = [\"x\"]\nenvironment_file = \"none\"", "none here"),
        (
            "command = [\"x\"]\nenvironment_file = \"app.toml\"",
            "line 1: not NAME=VALUE; no worker starts with it",
        ),
    ] {
        let (_folder, path) = file(format!("[app]\n{config}\n"));
        let (code, _, stderr) = said(&check(&[&path]));
        assert_eq!(code, Some(0), "{config}: {stderr}");
        assert_eq!(stderr.lines().count(), usize::from(!warning.is_empty()), "{config}: {stderr}");
        assert!(stderr.trim_end().ends_with(warning), "{config}: {stderr}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (folder, text) = file(b"[app]\n# \xff\n");
    let (_other, large) = file("#".repeat((128 << 10) + 1));
    let missing = folder.path().join("missing.toml");
    let path = |path: &Path| path.to_str().expect("a UTF-8 path").to_owned();
    let reason =
        |path: &str, reason: &str| format!("cannot read the configuration {path}: {reason}");
    let directory = path(folder.path());
    for (file, expected) in [
        (&path(&missing), reason(&path(&missing), "No such file or directory (os error 2)")),
        (&directory, reason(&directory, "Is a directory (os error 21)")),
        (&text, format!("the configuration {text} is not UTF-8 text (line 2)")),
        (&large, format!("{large} is larger than 128KiB: not a configuration")),
    ] {
        let output = check(&["--json", file]);
        let (code, _, stderr) = said(&output);
        assert_eq!((code, stderr), (Some(2), format!("stanch: {expected}\n")));
        assert_eq!(json(&output)["errors"][0]["message"], expected.as_str());
    }
}

#[test]
fn the_configurations_that_come_along_are_accepted() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let (code, _, stderr) = said(&check(&[path.to_str().expect("a UTF-8 path")]));
        assert_eq!(code, Some(0), "{stderr}");
        names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    assert_eq!(
        names,
        ["alerts.toml", "go.toml", "gunicorn.toml", "node.toml", "stanch.toml", "uvicorn.toml"]
    );
}

#[test]
fn secrets_are_not_shown_and_ill_kept_ones_are_told() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = file(
        "app.command = [\"serve\", \"--db-password\", \"hunter2\", \"postgres://ada:pw@db/shop\"]\n\
         [[alert]]\nto = { webhook = \"https://alerts.example/\", token = { file = \"token\" } }\n",
    );
    let token = folder.path().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    for (mode, told) in [(0o644, true), (0o640, false)] {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let (code, stdout, stderr) = said(&check(&[&path]));
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains("command  serve --db-password [secret] [secret]\n"), "{stdout}");
        assert!(!format!("{stdout}{stderr}").contains("hunter2"), "{stdout}{stderr}");
        let warning = format!("every user of this host can read the secret in {}", token.display());
        assert_eq!(stderr.contains(&warning), told, "{mode:o}: {stderr}");
    }
}

#[test]
fn a_rollback_that_never_comes_is_warned_of() {
    for (action, why) in [
        ("off", "leaks are not looked for"),
        ("alert", "a leak is written down, and nothing is touched"),
        ("restart", ""),
    ] {
        let text =
            "app.command = [\"/bin/sh\"]\napp.release = \"1\"\nrelease.on_leak = \"rollback\"\n";
        let (_folder, path) = file(format!("{text}leak.action = \"{action}\"\n"));
        let (code, _, stderr) = said(&check(&[&path]));
        let warning = format!(
            "{path}: warning: release.on_leak: \"rollback\" does nothing with leak.action = \"{action}\": {why}\n"
        );
        let expected = if why.is_empty() { "" } else { &warning };
        assert_eq!((code, stderr.as_str()), (Some(0), expected));
    }
}

/// `run` would refuse the one, and not go back from the other.
#[test]
fn what_a_deploy_cannot_do_is_warned_of() {
    let (folder, path) = file("");
    let link = folder.path().canonicalize().unwrap().join("current");
    std::os::unix::fs::symlink(folder.path(), &link).expect("a link");
    let text = "release.file = \"REVISION\"\n[app]\ndirectory = \".\"\n\
                command = [\"/bin/sh\", \"-c\", \"exec sh current/shop\"]\n";
    fs::write(&path, text).expect("the file is written");
    let (code, _, stderr) = said(&check(&[&path]));
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("warning: release.file: the label of the release in "), "{stderr}");
    let link = format!("follows the link {}, and", link.display());
    assert!(stderr.contains(&link), "{stderr}");
    fs::write(folder.path().join("REVISION"), "41").expect("the file is written");
    let (_, stdout, stderr) = said(&check(&[&path]));
    assert!(stdout.contains(", release 41") && !stderr.contains("REVISION"), "{stdout} {stderr}");
    // These are followed once.
    let real = folder.path().canonicalize().unwrap().join("shop");
    let absolute =
        format!("[\"/bin/sh\", \"-c\", \"exec sh {}/current/shop\"]", folder.path().display());
    for command in ["[\"/bin/sh\", \"current/shop\"]", &absolute] {
        fs::write(&path, format!("app.directory = \".\"\napp.command = {command}\n")).unwrap();
        let (_, stdout, stderr) = said(&check(&[&path]));
        assert_eq!(stderr, "", "{command}");
        assert!(stdout.contains(real.to_str().unwrap()), "{stdout}");
    }
}
