use super::{super::entry::MAX_DESTINATIONS, *};
use crate::policy::{Destination, HostName};

#[test]
fn what_an_agent_asks_for_below_one_registered_domain_is_one_request() {
    let (mut book, now) = (Book::default(), Instant::now());
    for (agent, name, program) in [
        (1, "api.a.example.co.uk", "curl"),
        (1, "cdn.example.co.uk", "curl"),
        (1, "api.a.example.co.uk", "curl"),
        (1, "api.a.example.co.uk", "git"),
        (1, "other.co.uk", "curl"),
        (2, "cdn.example.co.uk", "curl"),
    ] {
        ask(&mut book, agent, name, program, now).unwrap();
    }
    let listed: Vec<_> = book
        .entries()
        .iter()
        .map(|entry| (entry.number, entry.key.group.as_str(), entry.asked, entry.wishes.len()))
        .collect();
    assert_eq!(listed, [(1, "example.co.uk", 4, 2), (2, "other.co.uk", 1, 1), (3, "example.co.uk", 1, 1)]);
    assert_eq!(book.entries()[0].programs, ["curl", "git"]);
}

#[test]
fn an_approval_lets_go_what_was_listed_and_what_joined_since_still_waits() {
    let (mut book, now) = (Book::default(), Instant::now());
    let mut listed = [
        wait(&mut book, 1, "a.example.com", "curl", now).unwrap(),
        wait(&mut book, 1, "a.example.com", "git", now).unwrap(),
    ];
    let decided = book.entries()[0].as_listed(book.entries()[0].mark()).unwrap();
    let mut others = [
        wait(&mut book, 1, "b.example.com", "curl", now).unwrap(),
        wait(&mut book, 2, "a.example.com", "curl", now).unwrap(),
    ];
    let late = wait(&mut book, 1, "a.example.com", "npm", now).unwrap();
    book.approve(&decided);
    let outcomes = listed.each_mut().map(|waiting| *waiting.outcome.borrow_and_update());
    assert_eq!(outcomes, [Some(Ok(())); 2]);
    assert_eq!(*late.outcome.borrow(), Some(Ok(())), "it asks for no more");
    let outcomes = others.each_mut().map(|waiting| *waiting.outcome.borrow_and_update());
    assert_eq!(outcomes, [None; 2]);
    let left: Vec<_> = book.entries().iter().map(|entry| (entry.number, entry.wishes.len())).collect();
    assert_eq!(left, [(1, 1), (2, 1)]);
    assert!(book.entries()[0].as_listed(decided.mark()).is_none(), "it is listed as another");
}

#[test]
fn a_denial_is_remembered_for_the_domain_until_its_end_whatever_the_program_is_called() {
    let (mut book, now) = (Book::default(), Instant::now());
    let mut waiting = wait(&mut book, 1, "a.example.com", "curl", now).unwrap();
    let decided = book.entries()[0].clone();
    let end = now + Duration::from_secs(60);
    book.deny(&decided, end);
    assert_eq!(*waiting.outcome.borrow_and_update(), Some(Err(Reason::ApprovalDenied)));
    for program in ["curl", "git"] {
        assert_eq!(ask(&mut book, 1, "b.example.com", program, now), Err(Reason::ApprovalDenied));
    }
    assert!(ask(&mut book, 1, "b.example.org", "curl", now).is_ok());
    assert!(ask(&mut book, 2, "b.example.com", "curl", now).is_ok());
    assert!(ask(&mut book, 1, "b.example.com", "curl", end).is_ok(), "it is asked again");
}

#[test]
fn an_agent_begins_no_more_requests_a_minute_than_people_can_look_at() {
    let (mut book, now) = (Book::default(), Instant::now());
    for number in 0..MAX_BEGUN {
        ask(&mut book, 1, &format!("n{number}.com"), "curl", now).unwrap();
    }
    assert_eq!(ask(&mut book, 1, "more.com", "curl", now), Err(Reason::ApprovalsExceeded));
    assert!(ask(&mut book, 1, "n0.com", "curl", now).is_ok(), "what is listed is joined");
    assert!(ask(&mut book, 2, "more.com", "curl", now).is_ok(), "another has its own");
    assert!(ask(&mut book, 1, "more.com", "curl", now + MINUTE).is_ok());
}

#[test]
fn an_agent_lists_and_waits_within_its_bounds_and_another_has_its_own() {
    let (mut book, mut now) = (Book::default(), Instant::now());
    for number in 0..MAX_REQUESTS {
        if number % MAX_BEGUN == 0 {
            now += MINUTE;
        }
        ask(&mut book, 1, &format!("n{number}.com"), "curl", now).unwrap();
    }
    now += MINUTE;
    assert_eq!(ask(&mut book, 1, "more.com", "curl", now), Err(Reason::ApprovalsExceeded));
    assert!(ask(&mut book, 2, "more.com", "curl", now).is_ok());
    for number in 1..MAX_DESTINATIONS {
        ask(&mut book, 1, &format!("x{number}.n0.com"), "curl", now).unwrap();
    }
    assert_eq!(ask(&mut book, 1, "x.n0.com", "curl", now), Err(Reason::ApprovalsExceeded));
    let waiting: Vec<_> =
        (0..MAX_WAITING).map(|_| wait(&mut book, 1, "n0.com", "curl", now).unwrap()).collect();
    assert!(matches!(wait(&mut book, 1, "n0.com", "curl", now), Err(Reason::ApprovalRequired)));
    assert!(wait(&mut book, 2, "more.com", "curl", now).is_ok());
    assert_eq!(book.entries()[0].waiting(), MAX_WAITING);
    drop(waiting);
    assert!(wait(&mut book, 1, "n0.com", "curl", now).is_ok());
}

#[test]
fn what_nobody_asks_for_any_more_is_forgotten_and_so_is_an_agent_that_ended() {
    let (mut book, now) = (Book::default(), Instant::now());
    ask(&mut book, 1, "a.example.com", "curl", now).unwrap();
    let waiting = wait(&mut book, 2, "a.example.com", "curl", now).unwrap();
    book.tidy(now + KEEP);
    assert_eq!(book.entries().len(), 1, "one is waited for");
    book.forget(AgentId(2));
    assert!(book.entries().is_empty() && waiting.outcome.has_changed().is_err(), "who waits is let go");
}

fn ask(book: &mut Book, agent: u32, name: &str, program: &str, now: Instant) -> Result<(), Reason> {
    let question = question(name);
    book.join(Key::of(AgentId(agent), &question.destination), program, &question, None, now).map(drop)
}

fn wait(book: &mut Book, agent: u32, name: &str, program: &str, now: Instant) -> Result<Waiting, Reason> {
    let question = question(name);
    book.wait(Key::of(AgentId(agent), &question.destination), program, &question, None, now)
}

fn question(name: &str) -> Question {
    let destination = Destination::Name(HostName::parse(name).expect("a name"));
    Question { destination, port: None, protocol: None, process: None }
}
