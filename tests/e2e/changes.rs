//! Policy files that change by themselves: nobody asks the daemon to read them.

use crate::{
    AGENT, fence,
    fence::Fence,
    policies::with,
    program::{Outcome, poll},
    reload::cut,
    talker::Talker,
};
use std::{fs, io::Write, os::unix::fs::PermissionsExt};

#[test]
fn a_policy_file_that_changes_is_in_force_without_being_asked_for() {
    let fence = fence(&with(&[OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.fails("fetch https://alt.test/");
    fence.write_policy(&with(&[OK, ALT]));
    poll("the rule that was added", || (talker.tell("fetch https://alt.test/") == "ok").then_some(()));
    replace(&fence, &with(&[OK]));
    poll("the rule that was removed", || (talker.tell("fetch https://alt.test/") != "ok").then_some(()));
}

#[test]
fn a_rule_that_goes_by_itself_cuts_its_live_flows() {
    let fence = fence(&with(&[OK, DB]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    talker.does("keep db.test 5432");
    talker.does("say before");
    replace(&fence, &with(&[OK]));
    poll("the reload", || told(&fence, "policy files changed").then_some(()));
    cut(&mut talker, "say after");
}

#[test]
fn a_broken_change_is_in_force_nowhere_and_in_the_status_until_it_is_mended() {
    let fence = fence(&with(&[OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    fence.write_policy(&with(&[OK, "{host: alt.test, privat: true}"]));
    let status = poll("the failure", || unhealthy(&fence));
    assert!(status.says("policy.yaml:6") && status.says("privat"), "file, line and word: {status:#?}");
    talker.does("fetch https://ok.test/");
    talker.fails("fetch https://alt.test/");
    replace(&fence, &with(&[OK, ALT]));
    poll("the mended file", || fence.ctl(&["status", "-q"]).succeeded().then_some(()));
    talker.does("fetch https://alt.test/");
}

#[test]
fn what_others_than_root_may_write_is_not_taken_by_itself() {
    let fence = fence(&with(&[OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    let policy = fence.lab().folder().join("policy.yaml");
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o666)).expect("it is ours");
    fence.write_policy(&with(&[OK, ALT]));
    let status = poll("the failure", || unhealthy(&fence));
    assert!(status.says("others than root"), "{status:#?}");
    talker.fails("fetch https://alt.test/");
    let outcome = fence.ctl(&["reload"]);
    assert!(outcome.succeeded(), "who is asked for it obeys: {outcome:#?}");
    talker.does("fetch https://alt.test/");
    assert!(fence.ctl(&["status", "-q"]).succeeded());
}

#[test]
fn the_policy_file_of_one_agent_is_read_again_as_the_others_are() {
    let fence = fence(&with(&[OK]));
    let own = fence.lab().folder().join("own/policy.yaml");
    fs::create_dir(own.parent().expect("it has one")).expect("a folder of the lab");
    fs::write(&own, with(&[OK])).expect("a file of the lab");
    let flags = ["--uid", "nobody", "--policy", own.to_str().expect("UTF-8")];
    let mut talker = Talker::start(&fence.agent(AGENT).with(&flags));
    talker.fails("fetch https://alt.test/");
    fs::write(&own, with(&[OK, ALT])).expect("a file of the lab");
    poll("the rule that was added", || (talker.tell("fetch https://alt.test/") == "ok").then_some(()));
}

#[test]
fn an_agent_that_is_root_and_writes_its_own_policy_file_is_obeyed_by_nobody() {
    let mut fence = fence(&with(&[OK]));
    let own = fence.lab().folder().join("own/policy.yaml");
    fs::create_dir(own.parent().expect("it has one")).expect("a folder of the lab");
    fs::write(&own, with(&[OK])).expect("a file of the lab");
    let flags = ["--policy", own.to_str().expect("UTF-8")];
    let mut talker = Talker::start(&fence.agent(AGENT).with(&flags));
    talker.does("fetch https://ok.test/");
    fs::write(&own, with(&[OK, ALT])).expect("a file of the lab");
    gains_nothing(&mut fence, &mut talker);
}

#[test]
fn an_agent_that_writes_the_allowlist_of_its_policy_gains_nothing_by_reloads_and_restarts() {
    let mut fence = fence(&with(&[OK]));
    let own = fence.lab().folder().join("own");
    let allowlist = |rule: &str| {
        let text = format!("version: 1\nname: mine\nrules:\n  - {rule}\n");
        fs::write(own.join("allowlists/mine.yaml"), text).expect("a file of the lab");
    };
    fs::create_dir_all(own.join("allowlists")).expect("a folder of the lab");
    fs::set_permissions(own.join("allowlists"), fs::Permissions::from_mode(0o777)).expect("it is ours");
    let file = own.join("policy.yaml");
    let policy = format!("version: 1\nagents:\n  {AGENT}:\n    include: [mine]\n");
    fs::write(&file, policy).expect("a file of the lab");
    allowlist(OK);
    let flags = ["--uid", "nobody", "--policy", file.to_str().expect("UTF-8")];
    let mut talker = Talker::start(&fence.agent(AGENT).with(&flags));
    talker.does("fetch https://ok.test/");
    allowlist(ALT);
    gains_nothing(&mut fence, &mut talker);
    fs::set_permissions(own.join("allowlists"), fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert!(fence.ctl(&["reload"]).succeeded());
    talker.does("fetch https://alt.test/");
}

#[test]
fn a_file_that_somebody_writes_to_is_in_force_once_it_is_closed() {
    let fence = fence(&with(&[OK]));
    let mut talker = Talker::start(&fence.agent(AGENT));
    let mut file = fs::File::create(fence.lab().folder().join("policy.yaml")).expect("a file of the lab");
    file.write_all(with(&[OK, ALT]).as_bytes()).expect("it can be written");
    let status = poll("the status", || unhealthy(&fence));
    assert!(status.says("policy.yaml") && status.says("closed"), "{status:#?}");
    talker.fails("fetch https://alt.test/");
    talker.does("fetch https://ok.test/");
    drop(file);
    poll("the whole file", || (talker.tell("fetch https://alt.test/") == "ok").then_some(()));
    poll("the status", || fence.ctl(&["status", "-q"]).succeeded().then_some(()));
}

#[test]
fn a_daemon_that_reads_files_when_asked_reads_them_only_then() {
    let fence = manual();
    let mut talker = Talker::start(&fence.agent(AGENT));
    fence.write_policy("version: 2\n");
    assert!(fence.ctl(&["status", "-q"]).succeeded(), "nobody looked at it");
    fence.write_policy(&with(&[OK, ALT]));
    talker.fails("fetch https://alt.test/");
    assert!(fence.ctl(&["reload"]).succeeded());
    talker.does("fetch https://alt.test/");
}

#[test]
fn an_agent_that_is_root_cannot_write_the_folder_of_policies_nor_put_another_in_its_place() {
    for mode in ["cgroup", "sealed"] {
        let lab = crate::lab::Lab::new();
        let folder = lab.folder().join("policies");
        let (config, evil) = (lab.folder().join("egressd.yaml"), lab.folder().join("evil.yaml"));
        fs::create_dir(&folder).expect("a folder of the lab");
        fs::write(folder.join("policy.yaml"), with(&[OK])).expect("a file of the lab");
        fs::write(&evil, with(&[OK, ALT])).expect("a file of the lab");
        let text = format!("version: 1\npolicy_dir: {}\n", folder.display());
        fs::write(&config, text).expect("a file of the lab");
        let flags: &'static [&'static str] = vec!["--config", &*config.display().to_string().leak()].leak();
        let fence = crate::fence::Fence::start_without_policy(lab, crate::programs(), flags);
        let flags = ["--mode", mode];
        let agent = fence.agent(AGENT).with(&flags);
        let (folder, lab) = (folder.display(), fence.lab().folder().display());
        let copy = format!("cp {} {folder}/policy.yaml", evil.display());
        let tried = agent.run(&format!(
            "id -u; {copy} && echo WROTE; rm {folder}/policy.yaml && echo REMOVED; mv {folder} {folder}.2 && echo MOVED
             mv {lab} {lab}.2 && echo MOVED; umount {folder} && echo BARE; mount -o remount,rw {folder} && echo WRITABLE
             touch {lab}/beside && echo beside"
        ));
        let said: Vec<&str> = tried.stdout.lines().collect();
        assert_eq!(said, ["0", "beside"], "{mode}: {tried:#?}");
        let mut talker = Talker::start(&agent);
        assert!(fence.ctl(&["reload"]).succeeded());
        talker.fails("fetch https://alt.test/");
        talker.does("fetch https://ok.test/");
        assert!(fence.lab().run(&copy).succeeded(), "the host may");
        poll("what the host wrote", || (talker.tell("fetch https://alt.test/") == "ok").then_some(()));
    }
}

#[test]
fn who_has_a_policy_replaced_is_in_the_log() {
    let asked = manual();
    let mut talker = Talker::start(&asked.agent(AGENT));
    talker.does("fetch https://ok.test/");
    assert!(asked.reload(&with(&[OK, ALT])).succeeded());
    let line = replaced(&asked);
    assert_eq!(line["agent"], AGENT);
    assert_eq!((&line["detail"], &line["by"]["uid"]), (&"reload".into(), &0.into()), "{line:#}");
    assert!(line["by"]["command"].as_str().expect("text").ends_with("reload"), "{line:#}");
    let tail = asked.ctl(&["tail", "--all"]);
    assert!(tail.says("POLICY replaced"), "{tail:#?}");
    let by_itself = fence(&with(&[OK]));
    let mut talker = Talker::start(&by_itself.agent(AGENT));
    talker.does("fetch https://ok.test/");
    by_itself.write_policy(&with(&[OK, DB]));
    let line = replaced(&by_itself);
    assert!(line["detail"] == "files changed" && line["by"].is_null(), "{line:#}");
    assert_eq!(line["agent"], AGENT);
    let of_nobody = manual();
    assert!(of_nobody.reload(&with(&[OK, ALT])).succeeded());
    let line = replaced(&of_nobody);
    assert!(line["agent"].is_null() && line["by"]["uid"] == 0, "whose agents are yet to start: {line:#}");
    let tail = of_nobody.ctl(&["tail", "--all"]);
    assert!(tail.says("POLICY replaced"), "{tail:#?}");
}

/// That ok.test stays open and alt.test closed, though a file says another thing by now.
fn gains_nothing(fence: &mut Fence, talker: &mut Talker) {
    let mut nothing_changed = |what: &str| {
        assert_ne!(talker.tell("fetch https://alt.test/"), "ok", "{what}");
        talker.does("fetch https://ok.test/");
    };
    // What is taken by itself is taken sooner.
    std::thread::sleep(std::time::Duration::from_secs(1));
    nothing_changed("by itself");
    assert!(fence.ctl(&["reload"]).succeeded());
    nothing_changed("by a reload");
    fence.kill();
    fence.restart();
    nothing_changed("by a restart");
}

/// The line of the log that says that a policy was replaced.
fn replaced(fence: &Fence) -> serde_json::Value {
    let line = poll("the line", || {
        let log = fs::read_to_string(fence.audit_log()).expect("there is a log");
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.into_iter().find(|line| line["change"] == "replaced")
    });
    assert!(line["destination"].as_str().expect("text").ends_with("policy.yaml"), "{line:#}");
    line
}

/// A daemon that reads policy files when somebody asks for it.
fn manual() -> Fence {
    let lab = crate::lab::Lab::new();
    let config = lab.folder().join("egressd.yaml");
    fs::write(&config, "version: 1\nreload: manual\n").expect("a file of the lab");
    let flags: &'static [&'static str] = vec!["--config", &*config.display().to_string().leak()].leak();
    crate::fence_in_with(lab, &with(&[OK]), flags)
}

/// As editors do it.
fn replace(fence: &Fence, policy: &str) {
    let folder = fence.lab().folder();
    fs::write(folder.join(".policy.yaml.new"), policy).expect("a file of the lab");
    fs::rename(folder.join(".policy.yaml.new"), folder.join("policy.yaml")).expect("a file of the lab");
}

/// The status, if it is not healthy.
fn unhealthy(fence: &Fence) -> Option<Outcome> {
    let status = fence.ctl(&["status"]);
    (!status.succeeded()).then_some(status)
}

fn told(fence: &Fence, what: &str) -> bool {
    let daemon = fence.daemon();
    daemon.stdout().contains(what) || daemon.stderr().contains(what)
}

const OK: &str = "{host: ok.test, private: true}";
const ALT: &str = "{host: alt.test, private: true}";
const DB: &str = "{host: db.test, protocol: tcp, ports: [5432], private: true}";
