//! The package: what is in it, and that its pages and completions know every command.

mod common;

use common::*;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs to a good end; what it printed.
fn run(command: &mut Command) -> String {
    let answer = answer(command);
    assert_eq!(answer.code, Some(0), "{command:?}: {answer:?}");
    answer.stdout
}

fn assets(folder: &Path) {
    let stanch = env!("CARGO_BIN_EXE_stanch");
    run(Command::new(stanch).arg("__assets").arg(folder));
}

#[test]
fn every_command_has_a_page_and_a_completion() {
    let folder = tempfile::tempdir().unwrap();
    assets(folder.path());
    let help = run(Command::new(env!("CARGO_BIN_EXE_stanch")).arg("--help"));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"run") && commands.contains(&"incidents"), "{help}");
    let read = |path: &str| fs::read_to_string(folder.path().join(path)).expect(path);
    let shells =
        ["stanch.bash", "_stanch", "stanch.fish"].map(|name| read(&format!("completions/{name}")));
    for command in commands {
        let page = read(&format!("man/stanch-{command}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{command}: {page}");
        for shell in &shells {
            assert!(shell.contains(command), "{command}: {shell}");
        }
    }
    let bash = folder.path().join("completions/stanch.bash");
    run(Command::new("bash").arg("-n").arg(bash));
    assert!(!fs::exists(folder.path().join("man/stanch-__launch.1")).unwrap());
}

/// A package of what was built for the tests, unpacked.
#[test]
fn the_package_has_all_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // cargo-deb looks for what it packs in `target`, which may be elsewhere and is other tests' as well.
    fs::create_dir_all(source.join("target/release")).unwrap();
    for name in [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "CHANGELOG.md",
        "config",
        "docs",
        "packaging",
        "src",
        "tests",
    ] {
        std::os::unix::fs::symlink(root.join(name), source.join(name)).unwrap();
    }
    // Which one it is does not matter here, and a debug build takes long to compress.
    fs::write(source.join("target/release/stanch"), "#!/bin/sh\n").unwrap();
    assets(&source.join("target/assets"));
    let deb = folder.path().join("stanch.deb");
    run(Command::new(installed("bin/cargo-deb"))
        .args(["--no-build", "--no-strip", "--fast", "--locked", "--offline", "--manifest-path"])
        .arg(source.join("Cargo.toml"))
        .arg("--output")
        .arg(&deb)
        .env("CARGO_TARGET_DIR", source.join("target")));
    let listed = run(Command::new("dpkg-deb").arg("--contents").arg(&deb));
    for path in [
        "-rwxr-xr-x ./usr/bin/stanch",
        "-rw-r--r-- ./lib/systemd/system/stanch@.service",
        "-rw-r--r-- ./etc/stanch/example.toml",
        "-rw-r--r-- ./usr/share/man/man1/stanch-run.1.gz",
        "-rw-r--r-- ./usr/share/bash-completion/completions/stanch",
        "-rw-r--r-- ./usr/share/zsh/vendor-completions/_stanch",
        "-rw-r--r-- ./usr/share/fish/vendor_completions.d/stanch.fish",
        "-rw-r--r-- ./usr/share/doc/stanch/examples/node.toml",
    ] {
        let (mode, path) = path.split_once(' ').unwrap();
        let found = listed.lines().any(|line| line.starts_with(mode) && line.ends_with(path));
        assert!(found, "{mode} {path} is not in\n{listed}");
    }
    let control = folder.path().join("control");
    run(Command::new("dpkg-deb").arg("--control").arg(&deb).arg(&control));
    assert_eq!(
        fs::read_to_string(control.join("conffiles")).unwrap().trim(),
        "/etc/stanch/example.toml"
    );
    let scripts =
        ["postinst", "postrm"].map(|name| fs::read_to_string(control.join(name)).unwrap());
    // An upgrade restarts nobody.
    assert!(
        scripts
            .iter()
            .all(|script| !script.contains("systemctl restart") && !script.contains("invoke")),
        "{scripts:?}"
    );
}
