//! Real processes through the real launcher: what a worker finds when it begins, and what the
//! supervisor hears when it cannot.

mod cost;
mod failures;
mod harness;
mod inheritance;
mod supervision;

mod worker {
    //! What a worker finds.

    use crate::harness::*;
    use stanch::linux::launch::{Account, Credentials, Limit};
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    #[tokio::test]
    async fn environment_is_the_plans_and_nothing_else() {
        let mut plan = plan("/usr/bin/env", &["-0"]);
        plan.environment.set("GREETING", "good day");
        plan.environment.set("LISTEN_FDS", "9");
        plan.environment.set("LISTEN_PID", "1");
        let output = run(&plan).await;
        let mut lines: Vec<_> = output.split_terminator('\0').collect();
        lines.sort_unstable();
        let marks =
            ["STANCH_GENERATION=7", "STANCH_MARK=2.7", "STANCH_SLOT=2", "STANCH_WORKER=2.7"];
        assert_eq!(lines, [["GREETING=good day"].as_slice(), &marks].concat());
    }

    #[tokio::test]
    async fn words_need_not_be_utf8() {
        let odd = OsString::from_vec(b"caf\xe9 \xff".to_vec());
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join(&odd);
        std::fs::create_dir(&directory).unwrap();
        let script = r#"printf '%s|' "$1" "$ODD" "${PWD##*/}" "$0""#;
        let mut plan = plan("/bin/sh", &["-c", script, "zero"]);
        plan.arguments.push(odd.clone());
        plan.environment.set("ODD", &odd);
        plan.directory = Some(directory.into());
        let odd = b"caf\xe9 \xff|".as_slice();
        assert_eq!(run_bytes(&plan).await, [odd, odd, odd, b"zero|"].concat());
    }

    #[tokio::test]
    async fn has_its_own_session_and_group() {
        let launching = spawn();
        let pid = launching.pid().to_string();
        let output = finish(launching, &plan("/bin/cat", &["/proc/self/stat"])).await.unwrap();
        let stat = String::from_utf8(output).unwrap();
        let fields: Vec<_> = stat.split(' ').collect();
        // pid (comm) state ppid pgrp session
        assert_eq!([fields[0], fields[4], fields[5]], [&pid; 3], "{stat}");
    }

    #[tokio::test]
    async fn signals_are_as_after_boot() {
        let launcher = disguised(
            "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n\
             signal.signal(64, signal.SIG_IGN)\n\
             signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])",
        );
        let plan = plan("/bin/cat", &["/proc/self/status"]);
        let status = String::from_utf8(finish(launcher.spawn(), &plan).await.unwrap()).unwrap();
        for set in ["SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set}");
        }
        assert_eq!(field(&status, "NoNewPrivs"), "0");
    }

    #[tokio::test]
    async fn umask_and_niceness_are_set() {
        let mut plan = plan("/bin/sh", &["-c", "umask; nice"]);
        plan.environment.set("PATH", "/usr/bin:/bin");
        plan.umask = Some(0o127);
        plan.nice = Some(11);
        assert_eq!(run(&plan).await, "0127\n11\n");
    }

    #[tokio::test]
    async fn limits_are_set_soft_and_hard() {
        let limit = |name: &str, soft, hard| Limit { name: name.into(), soft, hard };
        let mut plan = plan("/bin/cat", &["/proc/self/limits"]);
        plan.limits =
            vec![limit("nofile", Some(123), Some(234)), limit("core", Some(0), Some(4096))];
        let output = run(&plan).await;
        let row = |name: &str| {
            let line = output.lines().find(|line| line.starts_with(name)).unwrap();
            line[name.len()..].split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("Max open files"), ["123", "234"]);
        assert_eq!(row("Max core file size"), ["0", "4096"]);
    }

    #[tokio::test]
    async fn a_name_is_searched_in_the_workers_path() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("first"), folder.path().join("second"));
        for folder in [&first, &second] {
            std::fs::create_dir(folder).unwrap();
        }
        // Not executable, so the search goes on, as a shell's does.
        std::fs::write(first.join("greet"), "#!/bin/sh\necho wrong").unwrap();
        script(&second.join("greet"), "#!/bin/sh\necho right");
        let mut plan = plan("greet", &[]);
        plan.environment.set("PATH", std::env::join_paths([&first, &second]).unwrap());
        assert_eq!(run(&plan).await, "right\n");
    }

    #[tokio::test]
    async fn is_another_user_for_good() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: only root can become another user");
        }
        let account = Account::resolve(Some("nobody"), None).unwrap().unwrap();
        let script =
            "echo note >/dev/stdout; cat /proc/self/status; echo Home: $HOME $USER $LOGNAME";
        let mut plan = plan("/bin/sh", &["-c", script]);
        plan.environment.set("HOME", "/root");
        plan.environment.set_account(&account);
        plan.environment.set("PATH", "/usr/bin:/bin");
        let Credentials { uid, gid, .. } = account.credentials;
        plan.credentials = Some(Credentials { uid, gid, groups: vec![gid, 12345] });
        let status = run(&plan).await;
        assert_eq!(field(&status, "Uid"), vec![uid.to_string(); 4].join("\t"));
        assert_eq!(field(&status, "Gid"), vec![gid.to_string(); 4].join("\t"));
        assert_eq!(field(&status, "Groups"), format!("12345 {gid}"));
        assert_eq!(field(&status, "CapPrm"), "0000000000000000");
        let home = account.login.unwrap().home.into_string().unwrap();
        assert_eq!(field(&status, "Home"), format!("{home} nobody nobody"));
        assert!(status.starts_with("note\n"), "may open its own standard output: {status}");
    }
}
