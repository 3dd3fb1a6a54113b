//! Probe.

use crate::support::scene::Scene;
use crate::support::standin::script::Script;

#[test]
#[ignore = "a probe"]
fn probe_day() {
    let scene = Scene::new("day", &["first", "second"], Script::new(&["first", "second"]));
    println!("{:?}", scene.exec(&["-p", "x", "hello there"]).output());
    println!("{:?}", scene.exec(&["hello there\nsecond line"]).output());
    std::thread::sleep(std::time::Duration::from_millis(1100));
    println!("{:?}", scene.exec(&["another one"]).output());
    println!("{:?}", scene.space.prodex(&["use", "second"]).output());
    println!("{:?}", scene.run(&["exec", "--skip-git-repo-check", "resume", "--last", "go on"]).output());
    println!("{:?}", scene.run(&["exec", "--skip-git-repo-check", "resume", "--last"]).stdin(b"from stdin").output());
    scene.space.eject();
    std::fs::write("/tmp/s2env", format!("export CODEX_CHATGPT_BASE_URL={}\n", scene.backend.base_url())).unwrap();
    if let Ok(s) = std::env::var("HOLD") {
        std::thread::sleep(std::time::Duration::from_secs(s.parse().unwrap()));
    }
}
