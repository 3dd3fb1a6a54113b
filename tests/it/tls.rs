//! The backend over TLS, as the real one is: behind a CA that the user named it serves like any other, behind one that
//! nobody named everything says so.

use crate::support::codex::Fake;
use crate::support::scene::Scene;
use crate::support::standin::behave::Behave;
use crate::support::standin::script::{Kind, Script};

const BOTH: [&str; 2] = ["first", "second"];
/// What rustls calls an authority that it does not know.
const UNKNOWN: &str = "no secure connection to 127.0.0.1";
/// A false codex that asks one thing through the proxy and shows the answer. Curl has a CA setting of its own.
const ASK: &str = r#"url=${2#*\"}; curl -s "${url%\"}/ps/plugins/installed""#;

#[test]
fn rotates_over_tls_with_a_ca_of_the_users() {
    for variable in ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"] {
        for (kind, quota, asked) in [
            (
                Kind::Turn,
                Behave::quota_event(),
                &["first handshake", "first prewarm+", "first turn", "second handshake", "second turn+"][..],
            ),
            (Kind::Post, Behave::quota_status(), &["first handshake", "first post", "second post+"]),
        ] {
            let mut script = Script::new(&BOTH).on("first", kind.clone(), [quota]);
            if kind == Kind::Post {
                script = script.on("first", Kind::Handshake, [Behave::upgrade_required()]);
            }
            let (mut scene, ca) = Scene::over_tls("tls", &BOTH, script);
            scene.space.env(variable, ca.pem.to_str().expect("test paths are UTF-8"));
            let output = scene.exec(&["Say hello"]).output().expect(0);
            assert_eq!(output.stdout.trim_end(), "Hello from second.");
            assert!(!output.stderr.contains("Warning"), "the preflight went well: {}", output.stderr);
            assert_eq!(scene.asked(), asked, "{variable}");
            let quota = scene.space.prodex(&["quota", "-p", "first", "--once"]).output().expect(0);
            assert!(quota.stdout.contains("88% left"), "{}", quota.stdout);
        }
    }
}

#[test]
fn an_unknown_ca_is_named() {
    let (mut scene, ca) = Scene::over_tls("tls", &BOTH, Script::new(&BOTH));
    let fake = Fake::new(&scene.space, ASK);
    scene.space.env("PRODEX_CODEX_BIN", fake.path());
    let output = scene.run(&["exec"]).output().expect(0);
    assert!(output.stderr.contains(UNKNOWN) && output.stderr.contains("UnknownIssuer"), "{}", output.stderr);
    assert!(output.stdout.contains(UNKNOWN) && output.stdout.contains("service_unavailable"), "{}", output.stdout);
    assert!(scene.space.marked("upstream_connect_error").iter().any(|line| line.contains(UNKNOWN)));
    assert!(scene.backend.records().is_empty(), "nothing was asked");
    let quota = scene.space.prodex(&["quota", "-p", "first", "--once"]).output().expect(1);
    assert!(quota.stderr.contains(UNKNOWN) || quota.stdout.contains(UNKNOWN), "{quota:?}");
    // And with it all is well.
    scene.space.env("SSL_CERT_FILE", ca.pem.to_str().expect("test paths are UTF-8"));
    assert_eq!(scene.run(&["exec"]).output().expect(0).stdout, r#"{"plugins":[]}"#);
}

#[test]
fn a_ca_file_that_is_none_stops_the_run() {
    for variable in ["CODEX_CA_CERTIFICATE", "SSL_CERT_FILE"] {
        let (mut scene, _ca) = Scene::over_tls("tls", &BOTH, Script::new(&BOTH));
        let fake = Fake::new(&scene.space, ASK);
        scene.space.env("PRODEX_CODEX_BIN", fake.path());
        scene.space.env(variable, "/no/such.pem");
        let output = scene.run(&["--skip-quota-check", "exec"]).output().expect(1);
        assert!(output.stderr.contains("/no/such.pem") && output.stderr.lines().count() == 1, "{}", output.stderr);
        assert!(fake.calls().is_empty());
    }
}
