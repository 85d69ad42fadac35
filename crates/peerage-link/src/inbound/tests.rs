//! Many links that share an endpoint's memory, without their ciphers.

use peerage_wire::limits::MAX_FRAGMENT;

use super::*;

const ROUND: Duration = Duration::from_millis(100);
const BULK: u32 = 2;

/// The receiving side of one link with one channel, and a sender that uses up what it is given.
struct Greedy {
    inbound: Inbound,
    credit: u64,
    arrived: u64,
}

impl Greedy {
    fn new(config: &LinkConfig, memory: &Memory) -> Self {
        let mut inbound = Inbound::new(config, config.max_message, memory, Instant::START);
        inbound.measured(ROUND, ROUND);
        inbound.open(0);
        Self { inbound, credit: config.window, arrived: 0 }
    }

    fn take_credit(&mut self) {
        while let Some((channel, class, bytes)) = self.inbound.next_credit(false) {
            assert_eq!((channel, class), (0, BULK));
            self.credit += bytes;
        }
    }

    /// Sends whole messages as far as its credit goes; they are taken at once.
    fn send_all(&mut self, now: Instant) {
        self.inbound.at(now);
        let message = [0; MAX_FRAGMENT];
        while self.credit >= FRAGMENT_COST + MAX_FRAGMENT as u64 {
            self.credit -= FRAGMENT_COST + MAX_FRAGMENT as u64;
            let whole = self.inbound.fragment(0, BULK, 0, &message).unwrap().unwrap();
            self.inbound.taken(0, whole.receipt, whole.message.len());
            self.arrived += whole.message.len() as u64;
        }
    }

    fn grown(&self) -> u64 {
        self.inbound.borrowed().0
    }

    /// A fragment of a message; its length, when it is whole.
    fn part(&mut self, total: u64, payload: &[u8]) -> Option<usize> {
        let whole = self.inbound.fragment(0, BULK, total, payload).unwrap()?;
        self.inbound.taken(0, whole.receipt, whole.message.len());
        Some(whole.message.len())
    }

    fn has_room(&self) -> bool {
        self.inbound.borrowed().1 > 0
    }
}

#[test]
fn a_thousand_greedy_links_stay_within_the_budget_and_each_has_its_part() {
    let config = LinkConfig::default();
    let memory = Memory::new(64 << 20, 128 << 20);
    let mut now = Instant::START;
    let mut links: Vec<Greedy> = Vec::new();
    // The first ones come early and have all they can get before the others are there.
    for round in 0..50 {
        let wanted = if round < 20 { 10 } else { 1_000 };
        while links.len() < wanted {
            links.push(Greedy::new(&config, &memory));
        }
        now = now + ROUND;
        for link in &mut links {
            link.take_credit();
            link.send_all(now);
        }
        let lent: u64 = links.iter().map(Greedy::grown).sum();
        assert!(lent <= 64 << 20, "{lent} bytes in round {round}");
        assert_eq!(lent + memory.windows.left(), 64 << 20);
        let part = (64 << 20) / (wanted as u64 + 1);
        if round == 19 || round == 49 {
            for link in &links {
                assert!(link.grown() * 10 > part * 9 && link.grown() <= part, "{} of {part}", link.grown());
            }
        }
    }
    // When the others go, one may have half.
    links.truncate(1);
    let before = links[0].grown();
    for _ in 0..20 {
        now = now + ROUND;
        links[0].take_credit();
        links[0].send_all(now);
    }
    assert!(links[0].grown() > (15 << 20) && links[0].grown() > before, "{}", links[0].grown());
    drop(links);
    assert_eq!(memory.windows.left(), 64 << 20);
}

fn one_mebibyte() -> LinkConfig {
    LinkConfig { max_message: 1 << 20, reassembly: 1 << 20, ..LinkConfig::default() }
}

#[test]
fn links_take_turns_where_the_endpoint_has_room_for_few_messages() {
    let config = one_mebibyte();
    let memory = Memory::new(0, 3 << 20);
    let mut links: Vec<Greedy> = (0..20).map(|_| Greedy::new(&config, &memory)).collect();
    let mut now = Instant::START;
    let mut sent = vec![0_usize; links.len()];
    let mut done = vec![false; links.len()];
    for _ in 0..2_000 {
        now = now + Duration::from_millis(5);
        for (place, link) in links.iter_mut().enumerate() {
            link.inbound.at(now);
            link.inbound.on_timer().unwrap();
            link.take_credit();
            while !done[place] && link.credit > 0 {
                let piece = MAX_FRAGMENT.min((1 << 20) - sent[place]);
                let cost = FRAGMENT_COST + piece as u64;
                if link.credit < cost {
                    break;
                }
                link.credit -= cost;
                let total = if sent[place] == 0 { 1 << 20 } else { 0 };
                sent[place] += piece;
                done[place] = link.part(total, &vec![0; piece]).is_some();
            }
        }
        assert!(links.iter().filter(|link| link.has_room()).count() <= 3);
        if done.iter().all(|done| *done) {
            assert_eq!(memory.messages.left(), 3 << 20);
            return;
        }
    }
    panic!("some got no room: {done:?}");
}

#[test]
fn who_sends_too_slowly_what_others_wait_for_is_found_and_who_hurts_nobody_is_not() {
    let config = one_mebibyte();
    let memory = Memory::new(0, 1 << 20);
    let (mut slow, mut other) = (Greedy::new(&config, &memory), Greedy::new(&config, &memory));
    slow.part(1 << 20, &[0; 100]);
    assert!(slow.has_room());
    for _ in 0..8 {
        slow.take_credit();
        slow.part(0, &[0; 16 << 10]);
    }
    // 15 seconds, and 2 for 128 KiB that have come.
    assert_eq!(slow.inbound.lent_until, Some(Instant::START + Duration::from_secs(15)));
    slow.inbound.at(Instant::START + Duration::from_secs(15));
    assert_eq!(slow.inbound.on_timer(), Ok(()));
    let late = Instant::START + Duration::from_secs(17);
    let drip = |slow: &mut Greedy, now: Instant| {
        slow.inbound.at(now);
        slow.part(0, &[0]);
        slow.inbound.on_timer()
    };
    assert_eq!(slow.inbound.lent_until, Some(late));
    assert_eq!(drip(&mut slow, late), Ok(()));
    let again = slow.inbound.lent_until.unwrap();
    assert!(again > late && again <= late + Duration::from_secs(1));
    other.inbound.at(again);
    other.part(1 << 20, &[0; 100]);
    assert!(!other.has_room());
    assert_eq!(drip(&mut slow, again), Err(Kept::Room { total: 1 << 20 }));
    // Its link ends, and the other goes on when it asks again.
    let ask = other.inbound.deadline().unwrap();
    drop(slow);
    other.inbound.at(ask);
    other.inbound.on_timer().unwrap();
    assert!(other.has_room());
}

#[test]
fn who_waits_and_goes_holds_nobody_up() {
    let config = one_mebibyte();
    let memory = Memory::new(0, 1 << 20);
    let [mut holds, mut waits, mut next] = [(); 3].map(|()| Greedy::new(&config, &memory));
    holds.part(900_000, &[0; 100]);
    waits.part(1 << 20, &[0; 100]);
    next.part(50_000, &[0; 100]);
    assert!(holds.has_room() && !waits.has_room() && !next.has_room());
    waits.inbound.close_all();
    next.inbound.at(Instant::START + Duration::from_secs(1));
    next.inbound.on_timer().unwrap();
    assert!(next.has_room());
}
