use super::*;
use crate::state::scratch::Scratch;
use crate::sys::clock;
use std::fs;
use std::path::PathBuf;

const NOW: u64 = 1_795_574_904;

fn open(dir: &Scratch) -> Share {
    Share::of(Region::in_directory(dir.root(), &dir.path("home"), WORDS, begin))
}

/// The one file that `open` made.
fn file(dir: &Scratch) -> PathBuf {
    fs::read_dir(dir.root()).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn two_see_each_other() {
    let dir = Scratch::new("share");
    let (one, two) = (open(&dir), open(&dir));
    assert_eq!((one.problem(), two.problem()), (None, None));
    let (main, second) = (one.seat("main"), one.seat("second"));
    assert!(main != second && main == two.seat("main"));
    let first = one.enter(main, NOW);
    let _more = two.enter(main, NOW);
    let _other = two.enter(second, NOW);
    assert_eq!((one.inflight(main), two.inflight(main), one.inflight(second)), (2, 2, 1));
    drop(first);
    assert_eq!((one.inflight(main), two.inflight(main)), (1, 1));
    // Two of one process are two; who goes takes the share along, once nothing is in flight.
    let three = open(&dir);
    let last = three.enter(main, NOW);
    drop(three);
    one.sweep();
    assert_eq!(one.inflight(main), 2);
    drop(last);
    assert_eq!(one.inflight(main), 1);
}

#[test]
fn who_is_at_work_and_who_was_picked_last() {
    let dir = Scratch::new("share-work");
    let (one, two) = (open(&dir), open(&dir));
    let (main, second) = (one.seat("main"), one.seat("second"));
    let asked = one.enter(main, NOW);
    drop(two.enter(main, NOW + 60));
    drop(two.enter(second, NOW));
    // Requests in flight, and runs that asked for something in the last ten minutes.
    for (now, of_main, of_second) in
        [(NOW + 60, 3, 1), (NOW + 600, 3, 1), (NOW + 601, 2, 0), (NOW + 661, 1, 0), (NOW - 601, 1, 0)]
    {
        assert_eq!((two.active(main, now), one.active(second, now)), (of_main, of_second), "{}", now - NOW + 601);
    }
    drop(two);
    one.sweep();
    assert_eq!(one.active(main, NOW + 60), 2, "who is gone is not at work");
    drop(asked);
    assert_eq!((one.picked_at(main), one.picked_at(second)), (None, None));
    one.pick(main, NOW);
    one.pick(second, NOW + 5);
    assert_eq!((one.picked_at(main), one.picked_at(second)), (None, Some(NOW + 5)));
    // The next run is told, also when nobody was there in between.
    drop(one);
    let three = open(&dir);
    assert_eq!((three.picked_at(three.seat("second")), three.active(main, NOW)), (Some(NOW + 5), 0));
}

#[test]
fn marks_are_common_and_end() {
    let dir = Scratch::new("share-marks");
    let (one, two) = (open(&dir), open(&dir));
    let main = one.seat("main");
    one.mark_quota(main, NOW + 100, NOW);
    one.mark_quota(main, NOW + 50, NOW);
    one.mark_transport(main, NOW + 15, NOW);
    one.mark_refused(main, 7);
    let marks = |now| two.marks(main, now);
    let all = Marks { quota_until: Some(NOW + 100), transport_until: Some(NOW + 15), refused: Some(7) };
    assert_eq!(marks(NOW), all, "the longer one stays");
    assert_eq!(marks(NOW + 15), Marks { transport_until: None, ..all });
    assert_eq!(marks(NOW + 100), Marks { refused: Some(7), ..Marks::default() });
    assert_eq!(two.marks(two.seat("second"), NOW), Marks::default());
    two.clear(main, two.marked(main));
    assert_eq!(one.marks(main, NOW), Marks::default());
    // They outlive those who made them.
    one.mark_quota(main, NOW + 100, NOW);
    drop((one, two));
    let later = open(&dir);
    assert_eq!(later.marks(later.seat("main"), NOW).quota_until, Some(NOW + 100));
}

#[test]
fn absurd_moments_and_jumping_clocks() {
    let dir = Scratch::new("share-clock");
    let share = open(&dir);
    let main = share.seat("main");
    let table = [
        (NOW + MAX_QUOTA, NOW, Some(NOW + MAX_QUOTA)),
        (u64::MAX, NOW, Some(NOW + MAX_QUOTA)),
        (NOW - 1, NOW, None),
        (0, NOW, None),
        (u64::MAX, u64::MAX, None),
    ];
    for (until, now, expected) in table {
        share.clear(main, share.marked(main));
        share.mark_quota(main, until, now);
        assert_eq!(share.marks(main, now).quota_until, expected, "{until} {now}");
    }
    share.clear(main, share.marked(main));
    share.mark_quota(main, NOW + 100, NOW);
    assert_eq!(share.marks(main, 0).quota_until, None, "the clock went back to 1970: not believed");
    share.mark_quota(main, 20, 0);
    assert_eq!(share.marks(main, 0).quota_until, Some(20), "and what comes now is");
    share.mark_transport(main, NOW + 100_000, NOW);
    assert_eq!(share.marks(main, NOW).transport_until, Some(NOW + MAX_TRANSPORT));
}

#[test]
fn more_processes_than_slots_and_more_profiles_than_seats() {
    let dir = Scratch::new("share-full");
    let all: Vec<Share> = (0..SLOTS).map(|_| open(&dir)).collect();
    let main = all[0].seat("main");
    let inside: Vec<InFlight> = all.iter().map(|share| share.enter(main, NOW)).collect();
    let late = open(&dir);
    assert!(late.problem().unwrap().contains("64"));
    let own = late.enter(main, NOW);
    assert_eq!((late.inflight(main), all[0].inflight(main)), (65, 64), "it sees, and is not seen");
    drop(own);
    assert_eq!(late.inflight(main), 64);
    late.mark_quota(main, NOW + 5, NOW);
    assert_eq!(all[1].marks(main, NOW).quota_until, Some(NOW + 5));
    // "main" has one of 64 seats.
    let seats: Vec<Seat> = (0..2 * PROFILES).map(|n| late.seat(&format!("p{n}"))).collect();
    let places = |place| seats.iter().filter(|seat| seat.place == place).count();
    assert_eq!((places(Place::Shared), places(Place::Spare), places(Place::Nowhere)), (63, 64, 1));
    for (n, seat) in seats.iter().enumerate() {
        assert_eq!(late.seat(&format!("p{n}")), *seat);
        let guards = (late.enter(*seat, NOW), late.enter(*seat, NOW));
        let seen = if seat.place == Place::Nowhere { 0 } else { 2 };
        assert_eq!(late.inflight(*seat), seen, "{n}");
        late.mark_refused(*seat, 9);
        assert_eq!(late.marks(*seat, NOW).refused, (seen > 0).then_some(9));
        drop(guards);
        assert_eq!(late.inflight(*seat), 0, "{n}");
    }
    drop((all, late, inside));
    let next = open(&dir);
    assert_eq!(next.seat("new").place, Place::Shared, "a crowded table begins anew when nobody is there");
}

#[test]
fn the_dead_are_swept() {
    let dir = Scratch::new("share-dead");
    let share = open(&dir);
    let main = share.seat("main");
    let words = share.inner.region.words();
    // Numbers that nobody has, one of them our own with another start time; one slot that a sweep of ours left.
    let strangers = [u64::MAX, 1, share.inner.me ^ 1, share.inner.me];
    for (slot, owner) in strangers.iter().enumerate().map(|(n, owner)| (n + 1, owner)) {
        words[OWNERS + slot].store(*owner, Ordering::Relaxed);
        words[COUNTS + main.index * SLOTS + slot].store(3, Ordering::Relaxed);
    }
    let _own = share.enter(main, NOW);
    assert_eq!(share.inflight(main), 13);
    share.sweep();
    assert_eq!(share.inflight(main), 1);
    assert_eq!(words[OWNERS..TABLE].iter().filter(|owner| owner.load(Ordering::Relaxed) != 0).count(), 1);
}

#[test]
fn garbage_is_never_believed() {
    let dir = Scratch::new("share-garbage");
    drop(open(&dir));
    let path = file(&dir);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..300 {
        let length = [0, 1, 7, 8, 4_095, WORDS * 8 - 1, WORDS * 8, WORDS * 8 + 9][round % 8];
        let mut bytes: Vec<u8> = match round % 3 {
            0 => vec![0xff; length],
            1 => (0..length).map(|_| next() as u8).collect(),
            _ => (0..length).map(|_| if next().is_multiple_of(50) { next() as u8 } else { 0 }).collect(),
        };
        if round % 2 == 0 {
            let magic = MAGIC.to_ne_bytes();
            bytes.iter_mut().zip(magic).for_each(|(byte, magic)| *byte = magic);
        }
        fs::write(&path, &bytes).unwrap();
        let share = open(&dir);
        exercise(&share, round);
        // And under our hands, by somebody who writes whatever comes.
        if share.problem().is_none() {
            for word in share.inner.region.words() {
                word.store(if round % 3 == 0 { u64::MAX } else { next() }, Ordering::Relaxed);
            }
            exercise(&share, round);
        }
        let second = open(&dir);
        exercise(&second, round);
    }
}

fn exercise(share: &Share, round: usize) {
    for profile in ["main", "second"] {
        let seat = share.seat(profile);
        let guard = share.enter(seat, NOW);
        assert!(u64::from(share.inflight(seat)) <= MAX_COUNT * (SLOTS as u64 + 1), "{round}");
        let marks = share.marks(seat, NOW);
        assert!(marks.quota_until.is_none_or(|until| until > NOW && until <= NOW + MAX_QUOTA), "{round}");
        share.mark_quota(seat, NOW + 60, NOW);
        share.mark_transport(seat, NOW + 60, NOW);
        share.clear(seat, share.marked(seat));
        share.sweep();
        drop(guard);
    }
}

#[test]
fn where_nothing_can_be_shared_a_run_sees_itself() {
    let dir = Scratch::new("share-alone");
    let share = Share::of(Region::in_directory(&dir.path("none"), &dir.path("home"), WORDS, begin));
    assert!(share.problem().is_some());
    let main = share.seat("main");
    let guard = share.enter(main, NOW);
    assert_eq!(share.inflight(main), 1);
    share.mark_quota(main, NOW + 5, NOW);
    assert_eq!(share.marks(main, NOW).quota_until, Some(NOW + 5));
    drop(guard);
    assert_eq!(share.inflight(main), 0);
}

#[test]
fn threads_of_one_process_count_right() {
    let dir = Scratch::new("share-threads");
    let share = open(&dir);
    let main = share.seat("main");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let _guard = share.enter(main, NOW);
                    assert!((1..=8).contains(&share.inflight(main)));
                }
            });
        }
    });
    assert_eq!(share.inflight(main), 0);
}

/// `cargo test --release --lib -- --ignored --nocapture figures_of_share`
#[test]
#[ignore = "measures; run by hand in a release build"]
fn figures_of_share() {
    let dir = Scratch::new("share-figures");
    let all: Vec<Share> = (0..SLOTS).map(|_| open(&dir)).collect();
    let share = &all[0];
    let seats: Vec<Seat> = (0..10).map(|n| share.seat(&format!("profile-{n}"))).collect();
    let _inside: Vec<InFlight> =
        all.iter().flat_map(|share| seats.iter().map(|seat| share.enter(*seat, NOW))).collect();
    let rounds = 100_000_u32;
    let measure = |what: &str, mut work: Box<dyn FnMut() + '_>| {
        let best = (0..5).map(|_| {
            let began = clock::now();
            (0..rounds).for_each(|_| work());
            began.elapsed() / rounds
        });
        println!("{what}: {:?}", best.min().unwrap_or_default());
    };
    measure(
        "inflight of 10 profiles, 64 slots",
        Box::new(|| {
            assert_eq!(seats.iter().map(|seat| share.inflight(*seat)).sum::<u32>(), 640);
        }),
    );
    measure(
        "marks of 10 profiles",
        Box::new(|| {
            assert!(seats.iter().all(|seat| share.marks(*seat, NOW).quota_until.is_none()));
        }),
    );
    measure("enter and leave", Box::new(|| drop(share.enter(seats[0], NOW))));
    measure("clear", Box::new(|| share.clear(seats[0], share.marked(seats[0]))));
    let rounds = 20;
    let began = clock::now();
    (0..rounds).for_each(|_| share.sweep());
    println!("sweep of 64 slots: {:?}", began.elapsed() / rounds);
}
