//! The rules seen from outside: acts in, effects and refusals out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::limits::{HELD_STACKS_MAX, OFFER_MS};
use super::*;
use crate::utterance::Utterance;

/// A small world: the starter book, people on level ground, things.
struct World {
    book: RuleBook,
    things: Things,
    now: Tick,
    people: BTreeMap<EntityId, ActorView>,
    mint: IdMint,
}

impl View for World {
    fn book(&self) -> &RuleBook {
        &self.book
    }
    fn things(&self) -> &Things {
        &self.things
    }
    fn now(&self) -> Tick {
        self.now
    }
    fn hz(&self) -> u16 {
        20
    }
    fn actor(&self, id: EntityId) -> Option<ActorView> {
        self.people.get(&id).copied()
    }
    fn ground_cm(&self, x: i32, _: i32) -> Option<i32> {
        (x.abs() < 100_000).then_some(0)
    }
}

const ANN: EntityId = EntityId(1);
const BOB: EntityId = EntityId(2);

impl World {
    /// Ann at the origin, Bob 2 m east of her.
    fn new() -> Self {
        let at = |x| ActorView { position: Position::new(x, 0, 0), yaw: Yaw::NORTH, muted: false };
        Self {
            book: RuleBook::starter(),
            things: Things::default(),
            now: Tick(100),
            people: [(ANN, at(0)), (BOB, at(200))].into(),
            mint: IdMint::new(1),
        }
    }

    fn kind(&self, name: &str) -> KindId {
        self.book.kind_named(name).unwrap().id
    }

    fn give(&mut self, to: EntityId, name: &str, count: u32) -> EntityId {
        self.add(name, count, Holder::Held(to))
    }

    fn place(&mut self, name: &str, x: i32) -> EntityId {
        self.add(name, 1, Holder::Placed { at: Position::new(x, 0, 50), yaw: Yaw::NORTH })
    }

    fn add(&mut self, name: &str, count: u32, holder: Holder) -> EntityId {
        let id = EntityId(self.mint.mint());
        let thing = Thing::new(id, self.kind(name), count, holder);
        self.things.apply(&Effect::Create(thing)).unwrap();
        id
    }

    fn held(&self, who: EntityId, name: &str) -> u32 {
        self.things.count_of(who, self.kind(name))
    }

    /// Does an act and, if it takes time, lets that time pass.
    #[expect(clippy::unwrap_in_result, reason = "an effect that does not fit is what is tested")]
    fn act(&mut self, who: EntityId, act: &Act) -> Result<Outcome, Why> {
        let mut mint = std::mem::replace(&mut self.mint, IdMint::new(2));
        let result = begin(who, act, self, &mut mint);
        self.mint = mint;
        let outcome = result?;
        self.things.apply_all(&outcome.effects).unwrap();
        let Some(until) = outcome.until else { return Ok(outcome) };
        self.now = until;
        self.finish(who)
    }

    #[expect(clippy::unwrap_in_result, reason = "an effect that does not fit is what is tested")]
    fn finish(&mut self, who: EntityId) -> Result<Outcome, Why> {
        let mut mint = std::mem::replace(&mut self.mint, IdMint::new(2));
        let finished = finish(who, self, &mut mint).unwrap();
        self.mint = mint;
        self.things.apply_all(&finished.outcome.effects).unwrap();
        finished.refused.map_or(Ok(finished.outcome), Err)
    }

    fn offer(&mut self, give: Vec<Portion>, want: Vec<Lot>) -> Result<OfferId, Why> {
        self.act(ANN, &Act::on(Verb::Offer, BOB).with(Args::Deal { give, want }))?;
        Ok(self.things.offers().last().unwrap().id)
    }

    fn total(&self, kind: KindId) -> u64 {
        let of_kind = self.things.iter().filter(|thing| thing.kind == kind);
        of_kind.map(|thing| u64::from(thing.count)).sum()
    }
}

fn accept(offer: OfferId) -> Act {
    Act::new(Verb::Accept).with(Args::Offer(offer))
}

#[test]
fn what_lies_about_is_taken_and_dropped() {
    let mut world = World::new();
    let axe = world.place("axe", 100);
    world.act(ANN, &Act::on(Verb::Take, axe)).unwrap();
    assert_eq!(world.held(ANN, "axe"), 1);
    assert_eq!(world.act(BOB, &Act::on(Verb::Take, axe)), Err(Why::NotThere));
    world.act(ANN, &Act::on(Verb::Drop, axe)).unwrap();
    assert_eq!(world.things.get(axe).unwrap().place(), Some(Position::new(0, 0, -60)));
}

#[test]
fn reach_is_exact() {
    let mut world = World::new();
    let near = world.add("axe", 1, Holder::Placed { at: Position::new(250, 0, 0), yaw: Yaw::EAST });
    let far = world.add("axe", 1, Holder::Placed { at: Position::new(251, 0, 0), yaw: Yaw::EAST });
    let too_far = Err(Why::TooFar { cm: 251, reach_cm: 250 });
    assert_eq!(world.act(ANN, &Act::on(Verb::Take, far)), too_far);
    assert!(world.act(ANN, &Act::on(Verb::Take, near)).is_ok());
}

#[test]
fn trees_need_an_axe_and_run_out_for_a_while() {
    let mut world = World::new();
    let tree = world.place("tree", 100);
    let gather = Act::on(Verb::Gather, tree);
    let axe = world.kind("axe");
    assert_eq!(world.act(ANN, &gather), Err(Why::Missing { kind: axe, count: 1 }));
    world.give(ANN, "axe", 1);
    for _ in 0..5 {
        world.act(ANN, &gather).unwrap();
    }
    assert_eq!(world.held(ANN, "wood"), 10);
    let Err(Why::Spent { until }) = world.act(ANN, &gather) else { panic!("not spent") };
    world.now = until;
    world.act(ANN, &gather).unwrap();
    assert_eq!(world.held(ANN, "wood"), 12);
}

#[test]
fn work_takes_its_time_and_can_be_stopped() {
    let mut world = World::new();
    let tree = world.place("apple tree", 100);
    let gather = Act::on(Verb::Gather, tree);
    let begun = begin(ANN, &gather, &world, &mut IdMint::new(3)).unwrap();
    // 1.5 s at 20 ticks per second.
    assert_eq!(begun.until, Some(Tick(130)));
    world.things.apply_all(&begun.effects).unwrap();
    let busy = Err(Why::Busy { until: Tick(130) });
    assert_eq!(world.act(ANN, &gather), busy);
    assert_eq!((world.things.due(Tick(129)), world.things.due(Tick(130))), (vec![], vec![ANN]));
    let stopped = interrupt(ANN, &world).unwrap();
    assert_eq!(stopped.happenings.first().unwrap().phase, Phase::Stopped);
    world.things.apply_all(&stopped.effects).unwrap();
    assert_eq!((world.held(ANN, "apple"), world.things.work(ANN)), (0, None));
    assert!(interrupt(ANN, &world).is_none());
}

#[test]
fn work_whose_ground_is_gone_comes_to_nothing() {
    let mut world = World::new();
    let wood = world.give(ANN, "wood", 1);
    let bench = world.place("workbench", 100);
    let recipe = world.book.recipe_named("plank").unwrap().id;
    let make = Act::on(Verb::Make, bench).with(Args::Recipe(recipe));
    let begun = begin(ANN, &make, &world, &mut IdMint::new(3)).unwrap();
    world.things.apply_all(&begun.effects).unwrap();
    world.things.apply(&Effect::Consume { thing: wood, count: 1 }).unwrap();
    let missing = Why::Missing { kind: world.kind("wood"), count: 1 };
    assert_eq!(world.finish(ANN), Err(missing));
    assert_eq!(world.things.work(ANN), None);
}

#[test]
fn planks_become_a_fence_that_only_its_builder_takes_down() {
    let mut world = World::new();
    let bench = world.place("workbench", 100);
    world.give(ANN, "wood", 1);
    world.give(ANN, "hammer", 1);
    let recipe = |world: &World, name: &str| world.book.recipe_named(name).unwrap().id;
    let plank = Args::Recipe(recipe(&world, "plank"));
    let by_hand = Err(Why::NeedsStation { station: world.kind("workbench") });
    assert_eq!(world.act(ANN, &Act::new(Verb::Make).with(plank.clone())), by_hand);
    world.act(ANN, &Act::on(Verb::Make, bench).with(plank)).unwrap();
    assert_eq!((world.held(ANN, "wood"), world.held(ANN, "plank")), (0, 4));
    let at = Position::new(0, 77, -200);
    let site = Args::Site { recipe: recipe(&world, "fence"), at, yaw: Yaw::EAST };
    let built = world.act(ANN, &Act::new(Verb::Build).with(site.clone())).unwrap();
    let fence = built.happenings.first().unwrap().target.unwrap();
    assert_eq!(world.things.get(fence).unwrap().place(), Some(Position::new(0, 0, -200)));
    assert_eq!(world.act(ANN, &Act::new(Verb::Build).with(site)), Err(Why::NoRoom));
    world.people.get_mut(&BOB).unwrap().position = Position::new(100, 0, -200);
    assert_eq!(world.act(BOB, &Act::on(Verb::Take, fence)), Err(Why::NotYours));
    world.act(ANN, &Act::on(Verb::Take, fence)).unwrap();
    assert_eq!((world.held(ANN, "fence"), world.things.owned_by(ANN)), (1, 0));
    world.act(ANN, &Act::on(Verb::Drop, fence)).unwrap();
    assert_eq!(world.things.owned_by(ANN), 1);
}

#[test]
fn wells_fill_what_one_holds_and_drinking_leaves_the_cup() {
    let mut world = World::new();
    let well = world.place("well", 100);
    let draw = Act::on(Verb::Use, well);
    let bucket = world.kind("bucket");
    assert_eq!(world.act(ANN, &draw), Err(Why::Missing { kind: bucket, count: 1 }));
    world.give(ANN, "cup", 2);
    world.act(ANN, &draw).unwrap();
    assert_eq!((world.held(ANN, "cup"), world.held(ANN, "cup of water")), (1, 1));
    let full = world.kind("cup of water");
    let cup = world.things.held_by(ANN).find(|thing| thing.kind == full).unwrap().id;
    world.act(ANN, &Act::on(Verb::Use, cup)).unwrap();
    assert_eq!((world.held(ANN, "cup"), world.held(ANN, "cup of water")), (2, 0));
}

#[test]
fn chests_keep_things_from_those_who_may_not_open_them() {
    let mut world = World::new();
    let chest = world.place("chest", 100);
    let apples = world.give(ANN, "apple", 3);
    let put = Act::on(Verb::Put, chest).with(Args::Moved { thing: apples, count: 3 });
    assert_eq!(world.act(ANN, &put), Err(Why::Closed));
    assert_eq!(world.act(ANN, &Act::on(Verb::Lock, chest)), Err(Why::NotYours));
    let owned = Effect::Set { thing: chest, change: Change::Owner(Some(ANN)) };
    world.things.apply(&owned).unwrap();
    world.act(ANN, &Act::on(Verb::Open, chest)).unwrap();
    assert_eq!(world.act(ANN, &Act::on(Verb::Open, chest)), Err(Why::Already));
    world.act(ANN, &put).unwrap();
    assert_eq!(world.act(ANN, &Act::on(Verb::Take, chest)), Err(Why::NotPossible));
    world.act(ANN, &Act::on(Verb::Close, chest)).unwrap();
    world.act(ANN, &Act::on(Verb::Lock, chest)).unwrap();
    assert_eq!(world.act(BOB, &Act::on(Verb::Open, chest)), Err(Why::Locked));
    assert_eq!(world.act(BOB, &Act::on(Verb::Take, apples)), Err(Why::Locked));
    world.act(ANN, &Act::on(Verb::Open, chest)).unwrap();
    world.act(BOB, &Act::on(Verb::Take, apples)).unwrap();
    assert_eq!(world.held(BOB, "apple"), 3);
}

#[test]
fn boards_are_for_all_and_signs_for_their_owner() {
    let mut world = World::new();
    let board = world.place("notice board", 100);
    let sign = world.place("sign", 50);
    let write = |on, text: &str| Act::on(Verb::Write, on).with(Args::Text(text.into()));
    for count in 0..14 {
        world.act(ANN, &write(board, &format!("note {count}"))).unwrap();
    }
    let read = world.act(BOB, &Act::on(Verb::Read, board)).unwrap();
    let [Effect::Tell { actor, text, .. }] = read.effects.as_slice() else { panic!("{read:?}") };
    assert_eq!((*actor, text.lines().count(), text.lines().next()), (BOB, 12, Some("note 2")));
    assert_eq!(world.act(ANN, &write(sign, "mine")), Err(Why::NotYours));
    assert_eq!(
        world.act(ANN, &write(board, &"x".repeat(281))),
        Err(Why::TextTooLong { chars: 281 })
    );
    assert_eq!(world.act(ANN, &write(board, "a\nb")), Err(Why::BadText));
    world.people.get_mut(&ANN).unwrap().muted = true;
    assert_eq!(world.act(ANN, &write(board, "hello")), Err(Why::Muted));
    let say = Act::new(Verb::Say).with(Args::Say(Utterance::plain("hello")));
    assert_eq!(world.act(ANN, &say), Err(Why::Muted));
    assert_eq!(world.act(BOB, &say).unwrap().happenings.len(), 1);
}

#[test]
fn an_exchange_happens_whole_or_not_at_all() {
    let mut world = World::new();
    let apples = world.give(ANN, "apple", 5);
    world.give(BOB, "stone", 2);
    let stone = world.kind("stone");
    let give = vec![Portion { thing: apples, count: 3 }];
    let offer = world.offer(give.clone(), vec![Lot { kind: stone, count: 2 }]).unwrap();
    assert_eq!(world.act(ANN, &accept(offer)), Err(Why::NoSuchOffer));
    world.act(BOB, &accept(offer)).unwrap();
    assert_eq!((world.held(ANN, "apple"), world.held(BOB, "apple")), (2, 3));
    assert_eq!((world.held(ANN, "stone"), world.held(BOB, "stone")), (2, 0));
    assert_eq!(world.act(BOB, &accept(offer)), Err(Why::NoSuchOffer));
    // What was offered is gone meanwhile.
    let offer = world.offer(vec![Portion { thing: apples, count: 2 }], Vec::new()).unwrap();
    world.act(ANN, &Act::on(Verb::Use, apples)).unwrap();
    let before = world.things.clone();
    let lack = Why::TheyLack { kind: world.kind("apple"), count: 1 };
    assert_eq!(world.act(BOB, &accept(offer)), Err(lack));
    assert_eq!(world.things, before);
}

#[test]
fn full_pockets_can_swap_but_not_take() {
    let mut world = World::new();
    for who in [ANN, BOB] {
        for _ in 0..HELD_STACKS_MAX {
            world.give(who, "axe", 1);
        }
    }
    let axe = world.things.held_by(ANN).next().unwrap().id;
    let kind = world.kind("axe");
    let portion = Portion { thing: axe, count: 1 };
    let swap = world.offer(vec![portion], vec![Lot { kind, count: 1 }]).unwrap();
    world.act(BOB, &accept(swap)).unwrap();
    assert_eq!((world.things.stacks_of(ANN), world.things.stacks_of(BOB)), (16, 16));
    let axe = world.things.held_by(ANN).next().unwrap().id;
    let gift = Act::on(Verb::Give, BOB).with(Args::Moved { thing: axe, count: 1 });
    assert_eq!(world.act(ANN, &gift), Err(Why::Full { stacks_max: 16 }));
}

#[test]
fn like_can_be_swapped_for_like() {
    let mut world = World::new();
    let cup = world.give(ANN, "cup", 1);
    world.give(BOB, "cup", 1);
    let want = Lot { kind: world.kind("cup"), count: 1 };
    let swap = world.offer(vec![Portion { thing: cup, count: 1 }], vec![want]).unwrap();
    world.act(BOB, &accept(swap)).unwrap();
    assert_eq!((world.held(ANN, "cup"), world.held(BOB, "cup")), (1, 1));
}

#[test]
fn offers_end_by_answer_or_by_time() {
    let mut world = World::new();
    let apples = world.give(ANN, "apple", 5);
    let give = || vec![Portion { thing: apples, count: 1 }];
    let first = world.offer(give(), Vec::new()).unwrap();
    let decline = Act::new(Verb::Decline).with(Args::Offer(first));
    assert_eq!(world.act(ANN, &decline), Err(Why::NoSuchOffer));
    world.act(BOB, &decline).unwrap();
    let second = world.offer(give(), Vec::new()).unwrap();
    world.act(ANN, &Act::new(Verb::Withdraw).with(Args::Offer(second))).unwrap();
    for _ in 0..4 {
        world.offer(give(), Vec::new()).unwrap();
    }
    assert_eq!(world.offer(give(), Vec::new()), Err(Why::TooManyOffers { max: 4 }));
    assert_eq!(world.offer(Vec::new(), Vec::new()), Err(Why::BadArgs));
    let last = world.now.after(ticks(OFFER_MS, 20));
    assert!(world.things.expired(last).is_empty());
    let expired = world.things.expired(last.next());
    world.things.apply_all(&expired).unwrap();
    assert_eq!(world.things.offers().count(), 0);
}

#[test]
fn gifts_greetings_and_gestures_reach_people_near() {
    let mut world = World::new();
    let flowers = world.give(ANN, "flower", 3);
    let gift = Act::on(Verb::Give, BOB).with(Args::Moved { thing: flowers, count: 2 });
    let given = world.act(ANN, &gift).unwrap();
    let happening = given.happenings.first().unwrap().clone();
    assert_eq!((happening.verb, happening.target), (Verb::Give, Some(BOB)));
    let event = happening.numbered(7, world.now);
    assert!(event.is_noticed_at(Position::new(2_000, 0, 0)));
    assert!(!event.is_noticed_at(Position::new(2_001, 0, 0)));
    assert_eq!((world.held(ANN, "flower"), world.held(BOB, "flower")), (1, 2));
    assert!(world.act(BOB, &Act::on(Verb::Greet, ANN)).is_ok());
    assert_eq!(world.act(BOB, &Act::on(Verb::Greet, BOB)), Err(Why::NotPossible));
    assert_eq!(world.act(BOB, &Act::on(Verb::Greet, EntityId(9))), Err(Why::NotThere));
    let sit = Act::new(Verb::Emote).with(Args::Emote(Emote::Sit));
    let sat = world.act(BOB, &sit).unwrap();
    assert_eq!(sat.effects, [Effect::Pose { actor: BOB, pose: Pose::Sit }]);
}

#[test]
fn a_refusal_is_a_sentence() {
    let far = Why::TooFar { cm: 251, reach_cm: 250 };
    assert_eq!(far.to_string(), "too far away: 251 cm, and the reach is 250 cm");
    assert_eq!(Why::Busy { until: Tick(3) }.to_string(), "busy until tick 3");
}

fn any_args(things: u64) -> impl Strategy<Value = Args> {
    let id = (0..things + 40).prop_map(move |id| EntityId((1 << 40) + id));
    let count = 0..6_u32;
    let kind = (0..90_u16).prop_map(KindId);
    let spot = (-300..300_i32, -300..300_i32).prop_map(|(x, z)| Position::new(x, 0, z));
    let portion = (id.clone(), count.clone()).prop_map(|(thing, count)| Portion { thing, count });
    let lot = (kind, count.clone()).prop_map(|(kind, count)| Lot { kind, count });
    let recipe = (0..26_u16).prop_map(RecipeId);
    let deal = (prop::collection::vec(portion, 0..3), prop::collection::vec(lot, 0..3));
    prop_oneof![
        4 => Just(Args::None),
        1 => count.clone().prop_map(Args::Count),
        1 => (count.clone(), spot.clone())
            .prop_map(|(count, at)| Args::Spot { count, at, yaw: Yaw::EAST }),
        2 => (id, count).prop_map(|(thing, count)| Args::Moved { thing, count }),
        2 => deal.prop_map(|(give, want)| Args::Deal { give, want }),
        2 => (0..200_u64).prop_map(|offer| Args::Offer(OfferId((1 << 40) + offer))),
        2 => recipe.clone().prop_map(Args::Recipe),
        2 => (recipe, spot).prop_map(|(recipe, at)| Args::Site { recipe, at, yaw: Yaw::EAST }),
        1 => Just(Args::Text("hi".into())),
        1 => Just(Args::Emote(Emote::Wave)),
    ]
}

fn any_act() -> impl Strategy<Value = (EntityId, Act)> {
    let target = prop_oneof![
        1 => Just(None),
        2 => prop_oneof![Just(Some(ANN)), Just(Some(BOB))],
        6 => (0..80_u64).prop_map(|id| Some(EntityId((1 << 40) + id))),
    ];
    let verb = (0..21_u8).prop_map(|number| Verb::from_number(number).unwrap());
    let act =
        (verb, target, any_args(40)).prop_map(|(verb, target, args)| Act { verb, target, args });
    (prop_oneof![Just(ANN), Just(BOB)], act)
}

/// Returns what `effects` bring into being less what they use up, by kind.
fn balance(effects: &[Effect], things: &Things) -> BTreeMap<KindId, i64> {
    let mut balance = BTreeMap::new();
    for effect in effects {
        match effect {
            Effect::Create(thing) => {
                *balance.entry(thing.kind).or_default() += i64::from(thing.count);
            }
            Effect::Consume { thing, count } => {
                let kind = things.get(*thing).unwrap().kind;
                *balance.entry(kind).or_default() -= i64::from(*count);
            }
            Effect::Move { .. }
            | Effect::Split { .. }
            | Effect::Merge { .. }
            | Effect::Set { .. }
            | Effect::Offer(_)
            | Effect::EndOffer { .. }
            | Effect::Begin(_)
            | Effect::EndWork { .. }
            | Effect::Pose { .. }
            | Effect::Tell { .. } => {}
        }
    }
    balance
}

/// A world with something of everything in reach of both people.
fn market() -> World {
    let mut world = World::new();
    let standing = ["tree", "apple tree", "well", "workbench", "oven", "chest", "notice board"];
    for (index, name) in standing.iter().enumerate() {
        world.place(name, 20 * i32::try_from(index).unwrap());
    }
    let chest = world.kind("chest");
    let chest = world.things.iter().find(|thing| thing.kind == chest).unwrap().id;
    let owned = Effect::Set { thing: chest, change: Change::Owner(Some(ANN)) };
    world.things.apply(&owned).unwrap();
    let held = [("wood", 9), ("plank", 30), ("stone", 6), ("apple", 9), ("fibre", 8), ("axe", 1)];
    for who in [ANN, BOB] {
        for (name, count) in held {
            world.give(who, name, count);
        }
        for name in ["hammer", "bucket", "cup", "torch"] {
            world.give(who, name, 1);
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_appears_or_vanishes_but_by_the_rules(
        tries in prop::collection::vec((any_whim(), any_act(), 0..5_u8), 1..250),
    ) {
        let mut world = market();
        let kinds: Vec<KindId> = world.book.kinds().map(|kind| kind.id).collect();
        for (whim, wild, chance) in tries {
            // One in five makes no sense at all.
            let (who, act) = if chance == 0 { wild } else { world.act_of(whim) };
            let before: Vec<u64> = kinds.iter().map(|&kind| world.total(kind)).collect();
            let was = world.things.clone();
            match world.act(who, &act) {
                Err(_) if world.things.works().count() == 0 => {
                    // Work may have begun and come to nothing: things are as they were.
                    prop_assert_eq!(was.record().things, world.things.record().things);
                }
                Err(why) => panic!("{why} leaves work behind"),
                Ok(outcome) => {
                    let mut balance = balance(&outcome.effects, &was);
                    for (&kind, &count) in kinds.iter().zip(&before) {
                        let change = balance.remove(&kind).unwrap_or_default();
                        let now = i64::try_from(world.total(kind)).unwrap();
                        prop_assert_eq!(i64::try_from(count).unwrap() + change, now);
                    }
                }
            }
            for who in [ANN, BOB] {
                prop_assert!(world.things.stacks_of(who) <= HELD_STACKS_MAX);
            }
            for thing in world.things.iter() {
                let stack = world.book.kind(thing.kind).unwrap().stack;
                prop_assert!((1..=stack).contains(&thing.count), "{thing:?}");
            }
            let restored = Things::restore(world.things.record()).unwrap();
            prop_assert_eq!(&restored, &world.things);
        }
    }

    #[test]
    fn an_act_reads_back_from_its_bytes((_, act) in any_act()) {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&act).unwrap();
        let read = rkyv::from_bytes::<Act, rkyv::rancor::Error>(&bytes).unwrap();
        prop_assert_eq!(read, act);
    }
}

/// What somebody might try, in numbers that [`World::act_of`] fits to what is there.
#[derive(Clone, Copy, Debug)]
struct Whim {
    is_bob: bool,
    verb: Verb,
    picks: [u8; 3],
    count: u32,
}

fn any_whim() -> impl Strategy<Value = Whim> {
    (any::<bool>(), 0..21_u8, any::<[u8; 3]>(), 1..4_u32).prop_map(
        |(is_bob, verb, picks, count)| Whim {
            is_bob,
            verb: Verb::from_number(verb).unwrap(),
            picks,
            count,
        },
    )
}

fn pick<T: Copy>(from: &[T], by: u8) -> Option<T> {
    from.get(usize::from(by) % from.len().max(1)).copied()
}

impl World {
    /// Returns an act that makes sense here, if the whim can be had at all.
    fn act_of(&self, whim: Whim) -> (EntityId, Act) {
        let Whim { is_bob, verb, picks: [first, second, third], count } = whim;
        let (who, other) = if is_bob { (BOB, ANN) } else { (ANN, BOB) };
        let ids = |who| self.things.held_by(who).map(|thing| thing.id).collect::<Vec<_>>();
        let all: Vec<EntityId> = self.things.iter().map(|thing| thing.id).collect();
        let mine = pick(&ids(who), first);
        let theirs = pick(&ids(other), second).and_then(|id| self.things.get(id));
        let recipes: Vec<RecipeId> = self.book.recipes().map(|recipe| recipe.id).collect();
        let recipe = pick(&recipes, first).unwrap();
        let offers: Vec<OfferId> = self.things.offers().map(|offer| offer.id).collect();
        let at = Position::new(i32::from(second) * 3 - 300, 0, i32::from(third) * 3 - 300);
        let (target, args) = match verb {
            Verb::Take => (pick(&all, first), Args::Count(1)),
            Verb::Drop => (mine, Args::Spot { count, at, yaw: Yaw::EAST }),
            Verb::Put => {
                let thing = mine.unwrap_or(ANN);
                (pick(&all, third), Args::Moved { thing, count })
            }
            Verb::Give => (Some(other), Args::Moved { thing: mine.unwrap_or(ANN), count }),
            Verb::Offer => {
                let give = mine.map(|thing| Portion { thing, count }).into_iter().collect();
                let want =
                    theirs.map(|thing| Lot { kind: thing.kind, count }).into_iter().collect();
                (Some(other), Args::Deal { give, want })
            }
            Verb::Accept | Verb::Decline | Verb::Withdraw => {
                (None, Args::Offer(pick(&offers, first).unwrap_or(OfferId(0))))
            }
            Verb::Use | Verb::Open | Verb::Close | Verb::Lock | Verb::Gather | Verb::Read => {
                (pick(&all, first), Args::None)
            }
            Verb::Make => (pick(&all, second), Args::Recipe(recipe)),
            Verb::Build => (None, Args::Site { recipe, at, yaw: Yaw::EAST }),
            Verb::Write => (pick(&all, first), Args::Text("hello".into())),
            Verb::Greet => (Some(other), Args::None),
            Verb::Emote => (None, Args::Emote(Emote::Clap)),
            Verb::Say => (Some(other), Args::Say(Utterance::plain("hello"))),
            Verb::Stop => (None, Args::None),
        };
        (who, Act { verb, target, args })
    }
}

#[test]
fn whims_lead_to_every_verb() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut world = market();
    let mut done = BTreeMap::<Verb, u32>::new();
    for count in 0..20_000 {
        if count % 500 == 0 {
            world = market();
        }
        let whim = any_whim().new_tree(&mut runner).unwrap().current();
        let (who, act) = world.act_of(whim);
        if world.act(who, &act).is_ok() {
            *done.entry(act.verb).or_default() += 1;
        }
    }
    let rare: Vec<&str> =
        VERBS.iter().filter(|row| !done.contains_key(&row.verb)).map(|row| row.name).collect();
    assert!(rare.is_empty(), "never done: {rare:?} of {done:?}");
}
