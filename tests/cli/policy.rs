//! `egressctl policy`: exit codes and output of the verbs that need no daemon.

use crate::program::{Outcome, run_in};
use std::{
    fs,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

#[test]
fn check_exits_0_where_nothing_is_found_1_where_something_is_2_where_it_does_not_compile() {
    let folder = Folder::new();
    let fine = folder.write("fine.yaml", "version: 1\nagents: {a: {rules: [{host: a.test}]}}\n");
    assert_eq!(folder.run(&["check", &fine]).all(), (0, "nothing was found\n", ""));
    let odd = folder.write("odd.yaml", "version: 1\nagents: {b: {rules: [{host: db.internal}]}}\n");
    let found = folder.run(&["check", &odd]);
    assert_eq!(found.code, 1);
    assert_eq!(
        found.stdout,
        format!(
            "{odd}:2: warning: names below `internal` have private addresses, which are denied here [private-name]\n  \
             help: add `private: true`\n1 warning(s), 0 note(s)\n"
        )
    );
    assert_eq!(folder.run(&["check", &odd, "--allow", "private-name"]).code, 0);
    let note = folder.write("note.yaml", "version: 1\nagents: {c: {deny: [{host: a.test}]}}\n");
    assert_eq!(folder.run(&["check", &note]).code, 0);
    assert_eq!(folder.run(&["check", &note, "--deny", "note"]).code, 1);
    let json = folder.run(&["check", &odd, "-o", "json"]);
    assert!(json.code == 1 && json.stdout.contains("\"lint\":\"private-name\""), "{json:?}");
    let wrong = folder.write("wrong.yaml", "version: 1\nagents: {c: {rules: [{host: a b}]}}\n");
    let wrong = folder.run(&["check", &wrong]);
    assert!(wrong.code == 2 && wrong.stderr.contains("invalid host `a b`"), "{wrong:?}");
    assert_eq!(folder.run(&["check", "/nonexistent"]).code, 2);
    assert!(folder.run(&["check", "--lints"]).stdout.contains("shadowed-rule"));
}

#[test]
fn check_takes_allowlists_too() {
    let folder = Folder::new();
    let list = folder.write("list.yaml", "version: 1\nname: list\nrules: [{host: gist.github.com}]\n");
    let found = folder.run(&["check", &list]);
    assert!(found.code == 1 && found.stdout.contains("[risky-name]"), "{found:?}");
}

#[test]
fn diff_exits_0_where_the_meaning_is_the_same_1_where_it_differs_2_where_it_cannot_say() {
    let folder = Folder::new();
    let old = folder.write("old.yaml", "version: 1\nagents: {a: {rules: [{host: \"*.a.test\"}]}}\n");
    let same =
        folder.write("same.yaml", "# moved\nversion: 1\nagents:\n  a: {rules: [{host: \"*.a.test\"}]}\n");
    let new = folder.write("new.yaml", "version: 1\nagents: {a: {rules: [{host: b.a.test}]}}\n");
    assert_eq!(folder.run(&["diff", &old, &same]).all(), (0, "they mean the same\n", ""));
    let differs = folder.run(&["diff", &old, &new]);
    assert_eq!((differs.code, differs.stderr.as_str()), (1, ""));
    let lines: Vec<&str> = differs.stdout.lines().collect();
    assert_eq!(lines[0], "agent a");
    assert!(lines[1].starts_with("  - *.a.test, but for b.a.test  443/tls"), "{lines:#?}");
    assert!(lines[2].starts_with("  ~ b.a.test"), "{lines:#?}");
    assert_eq!(lines[3..], ["      leak_budget: 4096 -> not needed", "0 allowed, 1 denied, 1 changed"]);
    let json = folder.run(&["diff", &old, &new, "-o", "json"]).stdout;
    assert!(json.contains("\"change\":\"denied\"") && json.contains("\"openings\":[\"443/tls\"]"), "{json}");
    assert_eq!(folder.run(&["diff", &old, "/nonexistent"]).code, 2);
}

#[test]
fn diff_reads_revisions_and_runs_nothing_of_the_repository() {
    let folder = Folder::new();
    folder.write("policy.yaml", "version: 1\nagents: {a: {include: [one]}}\n");
    folder.write("allowlists/one.yaml", "version: 1\nname: one\nrules: [{host: a.test}]\n");
    folder.git(&["init", "-q"]);
    folder.commit();
    folder.write("allowlists/one.yaml", "version: 1\nname: one\nrules: [{host: b.test}]\n");
    let proof = folder.path().join("ran");
    folder.git(&["config", "core.fsmonitor", &format!("touch {}", proof.display())]);
    folder.git(&["config", "core.pager", &format!("touch {}", proof.display())]);
    let differs = folder.run(&["diff", "HEAD:policy.yaml", "policy.yaml"]);
    assert_eq!(
        differs.all(),
        (
            1,
            "agent a\n  + b.test  443/tls  allowlists/one.yaml:3\n  - a.test  443/tls  HEAD:allowlists/one.yaml:3\n\
             1 allowed, 1 denied, 0 changed\n",
            ""
        )
    );
    for here in ["HEAD:", "HEAD:./policy.yaml", "HEAD:./", "HEAD:."] {
        let same = folder.run(&["diff", "HEAD:policy.yaml", here]);
        assert_eq!(same.all(), (0, "they mean the same\n", ""), "{here}");
    }
    assert!(!proof.exists(), "git ran what the repository told it to");
    for wrong in ["HEAD:missing.yaml", "nothing:policy.yaml", "--upload-pack=x:policy.yaml", ":policy.yaml"] {
        let outcome = folder.run(&["diff", "--", wrong, "policy.yaml"]);
        assert!(outcome.code == 2 && !outcome.stderr.is_empty(), "{wrong}: {outcome:?}");
    }
    let below = folder.path().join("allowlists");
    let run = |arguments: &[&str]| run_in(&below, Path::new("/nonexistent"), arguments);
    let above = run(&["policy", "diff", "HEAD:../policy.yaml", "../policy.yaml"]);
    assert!(
        above.code == 1 && above.stdout.contains("- a.test  443/tls  HEAD:../allowlists/one.yaml:3"),
        "{above:?}"
    );
    let hinted = run(&["policy", "diff", "HEAD:one.yaml", "one.yaml"]);
    assert!(hinted.code == 2 && hinted.stderr.contains("./one.yaml"), "git knows a better one: {hinted:?}");
    let bare = folder.run(&["diff", "HEAD", "policy.yaml"]);
    assert!(bare.code == 2 && bare.stderr.contains("HEAD:./policy.yaml"), "{bare:?}");
}

#[test]
fn a_link_that_refuses_a_commit_is_refused_in_it_and_in_the_working_tree() {
    let folder = Folder::new();
    folder.git(&["init", "-q"]);
    folder.write("policies/a.yaml", "version: 1\nagents: {a: {rules: [{host: a.test}]}}\n");
    folder.commit();
    let secret = folder.write("elsewhere/secret", "hunter2: 1\n");
    let link = folder.path().join("policies/x.yaml");
    symlink(&secret, &link).unwrap();
    folder.commit();
    let differs = folder.run(&["diff", "HEAD~1:policies", "HEAD:policies"]);
    let says = "`HEAD:policies/x.yaml` is no file but a link";
    assert!(differs.code == 2 && differs.stderr.contains(says), "{differs:?}");
    let fine = folder.run(&["diff", "HEAD~1:policies/a.yaml", "HEAD:policies/a.yaml"]);
    assert_eq!(fine.all(), (0, "they mean the same\n", ""));
    fs::rename(&link, folder.path().join("policies/allowlists.yaml")).unwrap();
    let link = folder.path().join("policies/x.test.yaml");
    symlink(&secret, &link).unwrap();
    for arguments in [
        &["check", "policies/"][..],
        &["check", "policies/a.yaml", "policies/allowlists.yaml"],
        &["diff", "policies", "policies"],
        &["fmt", "--check", "policies/allowlists.yaml"],
        &["export", "--to", "squid", "policies"],
        &["test", "policies"],
    ] {
        let refused = folder.run(arguments);
        assert!(refused.code == 2 && refused.stderr.contains("is no file but a link"), "{refused:?}");
        assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    }
    for name in ["x.test.yaml", "allowlists.yaml"] {
        fs::remove_file(folder.path().join("policies").join(name)).unwrap();
    }
    symlink(folder.path().join("elsewhere"), folder.path().join("policies/allowlists")).unwrap();
    assert_eq!(folder.run(&["check", "policies"]).code, 2);
}

#[test]
fn a_link_outside_of_a_repository_is_what_it_leads_to() {
    let folder = Folder::new();
    let data = folder.write("..data/a.yaml", "version: 1\nagents: {a: {rules: [{host: a.test}]}}\n");
    fs::create_dir(folder.path().join("policies")).unwrap();
    symlink(data, folder.path().join("policies/a.yaml")).unwrap();
    assert_eq!(folder.run(&["check", "policies"]).all(), (0, "nothing was found\n", ""));
}

#[test]
fn one_file_of_a_repository_is_read_with_the_roles_beside_it_and_without_their_agents() {
    let folder = Folder::new();
    folder.git(&["init", "-q"]);
    let base = "version: 1\nroles:\n  base:\n    rules:\n      - host: a.test\nagents:\n  other: {rules: [{host: z.internal}]}\n";
    folder.write("p/base.yaml", base);
    folder.write("p/build.yaml", "version: 1\nagents:\n  build:\n    extends: [base]\n");
    folder.commit();
    assert_eq!(folder.run(&["check", "p/build.yaml"]).all(), (0, "nothing was found\n", ""));
    let same = folder.run(&["diff", "HEAD:p/build.yaml", "p/build.yaml"]);
    assert_eq!(same.all(), (0, "they mean the same\n", ""));
    folder.write("p/base.yaml", &base.replace("a.test", "b.test").replace("z.internal", "y.internal"));
    let differs = folder.run(&["diff", "HEAD:p/build.yaml", "p/build.yaml"]);
    let told = "agent build\n  + b.test  443/tls  p/base.yaml:5\n  - a.test  443/tls  HEAD:p/base.yaml:5\n\
                1 allowed, 1 denied, 0 changed\n";
    assert_eq!(differs.all(), (1, told, ""));
    folder.write("p/build.yaml", "version: 1\nagents:\n  build:\n    extends: [bsae]\n");
    let wrong = folder.run(&["check", "p/build.yaml"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("known roles: base"), "{wrong:?}");
}

#[test]
fn a_section_that_selects_is_tried_before_it_is_in_force() {
    let folder = Folder::new();
    let policy = folder.write(
        "p.yaml",
        "version: 1\nagents:\n  ci:\n    select: {cgroup: /ci/*, labels: {team: web}}\n    rules: [{host: a.test}]\n  \
         ml:\n    select: {uid: 7}\n    rules: [{host: b.test}]\n",
    );
    let explain = |arguments: &[&str]| {
        let arguments = [&["explain", "a.test", "--policy", &policy], arguments].concat();
        run_in(folder.path(), Path::new("/nonexistent"), &arguments)
    };
    let allowed = explain(&["--cgroup", "/ci/job-1", "--label", "team=web"]);
    assert!(allowed.code == 0 && allowed.stdout.contains("agent `job-1`"), "{allowed:?}");
    assert!(allowed.stdout.contains("section    ci\n"), "{allowed:?}");
    let denied = explain(&["--uid", "7", "--agent", "x"]);
    assert!(denied.code == 1 && denied.stdout.contains("section    ml\n"), "{denied:?}");
    assert_eq!(explain(&["--label", "team=web"]).code, 2, "no section is for it");
    assert_eq!(explain(&["--cgroup", "ci"]).code, 2);
    let online = run_in(folder.path(), Path::new("/nonexistent"), &["explain", "a.test", "--uid", "7"]);
    assert!(online.code == 2 && online.stderr.contains("--policy"), "{online:?}");
}

#[test]
fn cases_are_no_policies_however_a_shell_lists_them() {
    let folder = Folder::new();
    let policy =
        folder.write("p.yaml", "version: 1\nagents:\n  default:\n    rules:\n      - host: a.test\n");
    let cases = folder.write("p.test.yaml", "version: 1\ncases:\n  - {allow: [a.test]}\n");
    assert_eq!(folder.run(&["check", &policy, &cases]).all(), (0, "nothing was found\n", ""));
    assert_eq!(folder.run(&["fmt", "--check", &policy, &cases]).all(), (0, "", ""));
    let alone = folder.run(&["check", &cases]);
    assert!(alone.code == 2 && alone.stderr.contains("egressctl policy test"), "{alone:?}");
}

#[test]
fn a_file_may_extend_roles_of_the_files_beside_it() {
    let folder = Folder::new();
    folder.write("base.yaml", "version: 1\nroles:\n  base:\n    rules:\n      - host: a.test\n");
    let build = folder.write("build.yaml", "version: 1\nagents:\n  build:\n    extends: [base]\n");
    assert_eq!(folder.run(&["fmt", "--check", &build]).all(), (0, "", ""));
    for path in [build.as_str(), "."] {
        let exported = folder.run(&["export", "--to", "squid", path]);
        assert!(exported.code == 0 && exported.stdout.contains("dstdomain -n a.test"), "{exported:?}");
        let explained =
            run_in(folder.path(), Path::new("/nonexistent"), &["explain", "a.test", "--policy", path]);
        assert!(explained.code == 0 && explained.stdout.contains("agent `build`"), "{explained:?}");
    }
    let unknown = folder.run(&["export", "--to", "squid", ".", "--agent", "biuld"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("--agent: build"), "{unknown:?}");
}

#[test]
fn test_exits_0_where_all_cases_hold_1_where_one_does_not_2_where_there_are_none() {
    let folder = Folder::new();
    folder.write(
        "p.yaml",
        "version: 1\nagents:\n  default:\n    rules:\n      - host: a.test\n      - host: b.test\n",
    );
    let policy = folder.run(&["test", "p.yaml"]);
    assert!(policy.code == 2 && policy.stderr.contains("holds a policy and no cases"), "{policy:?}");
    assert_eq!(folder.run(&["test"]).code, 2);
    folder.write("below/p.test.yaml", "version: 1\npolicy: ..\ncases:\n  - {allow: [c.test]}\n");
    let hinted = folder.run(&["test"]);
    assert!(hinted.code == 2 && hinted.stderr.contains("try `egressctl policy test ./below`"), "{hinted:?}");
    folder.write("p.test.yaml", "version: 1\ncases:\n  - {allow: [a.test], deny: [c.test]}\n");
    assert_eq!(folder.run(&["test"]).all(), (0, "2 case(s), 0 failed\n", ""));
    let covered = folder.run(&["test", "p.test.yaml", "--coverage"]);
    assert_eq!(
        covered.all(),
        (0, "p.yaml:6: no case: `b.test`\n2 case(s), 0 failed, 1 rule(s) without a case\n", "")
    );
    folder.write(
        "q.test.yaml",
        "version: 1\npolicy: p.yaml\ncases:\n  - deny: [{host: a.test, reason: denied-by-rule}]\n",
    );
    let failed = folder.run(&["test", "."]);
    assert_eq!(
        failed.all(),
        (
            1,
            "./q.test.yaml:4: failed: a.test:443/tls, agent `default`: expected deny (denied-by-rule), decided allow by \
             ./p.yaml:5\n3 case(s), 1 failed\n",
            ""
        )
    );
    assert!(folder.run(&["test", "-o", "json"]).stdout.contains("\"passed\":false"));
    folder.write("below/here.yaml", "version: 1\nagents: {default: {deny: [{host: a.test}]}}\n");
    folder.write("below/p.test.yaml", "version: 1\npolicy: .\ncases:\n  - {allow: [a.test]}\n");
    let named = folder.run(&["test", "below"]);
    assert!(named.stdout.contains("decided deny (denied-by-rule) by below/here.yaml:2\n"), "{named:?}");
    folder.write("r.test.yaml", "version: 1\ncases: [{allow: [a.test]}]\n");
    assert_eq!(folder.run(&["test", "r.test.yaml"]).code, 2, "there is no r.yaml");
}

#[test]
fn fmt_lays_out_what_compiles_and_leaves_the_rest() {
    let folder = Folder::new();
    let text = "version: 1\nagents:\n    a:\n        rules:\n            - reason: why # really\n              host: '*.a.test'\n";
    let path = folder.write("p.yaml", text);
    let told = folder.run(&["fmt", "--check", &path]);
    assert_eq!(told.all(), (1, format!("{path}: laid out in another way\n").as_str(), ""));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(folder.run(&["fmt", &path]).all(), (0, format!("{path}: laid out\n").as_str(), ""));
    let laid_out =
        "version: 1\nagents:\n  a:\n    rules:\n      - host: \"*.a.test\"\n        reason: why # really\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), laid_out);
    assert_eq!(folder.run(&["fmt", "--check", "."]).all(), (0, "", ""));
    for (text, says) in [
        (
            "version: 1\nagents:\n  a: {rules: [{host: a.test},\n    {host: b.test}]}\n",
            "line 3: a value goes on",
        ),
        ("version: 1\nagents: {a: {rules: [{host: a b}]}}\n", "invalid host"),
    ] {
        let path = folder.write("p.yaml", text);
        let left = folder.run(&["fmt", &path]);
        assert!(left.code == 2 && left.stderr.contains(says), "{left:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn fmt_leaves_a_file_to_its_owner() {
    let folder = Folder::new();
    let path = folder.write("p.yaml", "version: 1\nagents:\n    a: {rules: []}\n");
    if let Err(error) = chown(&path, Some(64_321), Some(64_322)) {
        eprintln!("skipped: only root can give files away: {error}");
        return;
    }
    assert_eq!(folder.run(&["fmt", &path]).code, 0);
    let about = fs::metadata(&path).unwrap();
    assert_eq!((about.uid(), about.gid()), (64_321, 64_322));
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn git(&self, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=x", "-c", "user.email=x@example", "-c", "commit.gpgSign=false"]);
        let status = command.args(arguments).current_dir(self.path()).stdout(Stdio::null()).status();
        assert!(status.unwrap().success(), "git {arguments:?}");
    }

    fn commit(&self) {
        self.git(&["add", "."]);
        self.git(&["commit", "-qm", "one"]);
    }

    /// Runs `egressctl policy` in this folder.
    fn run(&self, arguments: &[&str]) -> Outcome {
        let arguments: Vec<&str> = ["policy"].iter().chain(arguments).copied().collect();
        run_in(self.path(), Path::new("/nonexistent"), &arguments)
    }
}
