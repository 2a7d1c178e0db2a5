//! Somebody in a world, for tests: comes in over the SDK, walks, waits, acts.
//!
//! What should come of it is the tests' to say.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use client_viewer::io::headless::decode_ground;
use protocol::ids::{EntityId, PersonId};
use protocol::input::{Input, RUN};
use protocol::io::{Client, ClientEvent, ConnectError, ConnectOptions, Identity, View};
use protocol::message::ServerMessage;
use protocol::message::common::Audience;
use protocol::message::server::Being;
use protocol::replica::Entity;
use protocol::rules::{Act, KindId, Thing, Verb, Why};
use protocol::session::Answer;
use protocol::units::{Position, Yaw};
use protocol::utterance::Utterance;

use crate::process::ServerProcess;

/// Longer than anything here takes, on two busy cores too.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// How often a test looks: twice a tick.
const LOOK: Duration = Duration::from_millis(25);

/// Until the server knows that somebody stands, and they are at rest.
const STOPPING: Duration = Duration::from_millis(300);

/// How often one tries what needs ground, and how long one waits before trying again.
const GROUND_LOOKS: u32 = 100;
const GROUND_LOOK: Duration = Duration::from_millis(100);

/// Looks without getting anywhere after which a walker steps aside.
const STUCK_LOOKS: u32 = 12;

/// Somebody in a world.
pub struct Guest {
    /// Their connection.
    pub client: Client,
}

/// Returns the options of somebody called `name` with a new key.
///
/// # Errors
/// When the system gives no random bytes.
pub fn options(server: &ServerProcess, name: &str) -> Result<ConnectOptions> {
    Ok(ConnectOptions {
        server_key: Some(server.key()),
        identity: Some(Arc::new(Identity::generate()?)),
        ground: Some(Arc::new(decode_ground)),
        ..ConnectOptions::new(server.address().to_string(), name)
    })
}

impl Guest {
    /// Comes in as `name` with a new key.
    ///
    /// # Errors
    /// When that fails, with the server's log.
    pub async fn join(server: &ServerProcess, name: &str) -> Result<Self> {
        Self::enter(server, options(server, name)?).await
    }

    /// Comes in like this.
    ///
    /// # Errors
    /// As [`Self::join`].
    pub async fn enter(server: &ServerProcess, options: ConnectOptions) -> Result<Self> {
        let name = options.name.clone();
        let client = Box::pin(Client::connect(options)).await;
        let client = client.with_context(|| format!("{name} comes in; log:\n{}", server.log()))?;
        Ok(Self { client })
    }

    /// Returns who they are.
    #[must_use]
    pub fn person(&self) -> PersonId {
        self.client.look(|view| view.replica.person())
    }

    /// Returns their avatar.
    #[must_use]
    pub fn avatar(&self) -> EntityId {
        self.client.look(|view| view.replica.avatar())
    }

    /// Returns where they stand.
    #[must_use]
    pub fn position(&self) -> Position {
        self.client.look(|view| view.replica.body().position())
    }

    /// Returns what they hold, as far as they were told.
    #[must_use]
    pub fn holding(&self) -> Vec<Thing> {
        self.client.look(|view| view.replica.log().holding.clone())
    }

    /// Returns the number of a kind.
    ///
    /// # Errors
    /// When the world has none of that name.
    pub fn kind(&self, name: &str) -> Result<KindId> {
        let kind = self.client.look(|view| view.book.kind_named(name).map(|kind| kind.id));
        kind.with_context(|| format!("there is no kind {name}"))
    }

    /// Returns the id of what they hold of a kind.
    ///
    /// # Errors
    /// When they hold none in time.
    pub async fn held(&self, name: &str) -> Result<Thing> {
        let kind = self.kind(name)?;
        let find = |view: &View| {
            view.replica.log().holding.iter().find(|thing| thing.kind == kind).cloned()
        };
        self.until(&format!("holding a {name}"), find).await
    }

    /// Waits until they hold none of a kind.
    ///
    /// # Errors
    /// When they still hold some after all patience.
    pub async fn without(&self, name: &str) -> Result<()> {
        let kind = self.kind(name)?;
        let holds = |view: &View| {
            view.replica.log().holding.iter().all(|thing| thing.kind != kind).then_some(())
        };
        self.until(&format!("holding no {name}"), holds).await
    }

    /// Returns the nearest thing of a kind, and where it is.
    ///
    /// # Errors
    /// When none comes into view in time.
    pub async fn nearest(&self, name: &str) -> Result<(EntityId, Position)> {
        let kind = self.kind(name)?;
        let find = |view: &View| view.replica.nearest_of(kind).map(whereabouts);
        self.until(&format!("a {name} in view"), find).await
    }

    /// Waits until somebody is in view; returns the avatar and where it is.
    ///
    /// # Errors
    /// When they are not after all patience.
    pub async fn sees(&self, name: &str) -> Result<(EntityId, Position)> {
        let find = |view: &View| view.replica.named(name).map(whereabouts);
        self.until(&format!("{name} in view"), find).await
    }

    /// Returns the person behind an avatar in view.
    ///
    /// # Errors
    /// As [`Self::sees`].
    pub async fn person_named(&self, name: &str) -> Result<PersonId> {
        let find = |view: &View| match view.replica.named(name).map(|entity| &entity.being) {
            Some(Being::Avatar { person, .. }) => Some(*person),
            Some(Being::Thing { .. }) | None => None,
        };
        self.until(&format!("{name} in view"), find).await
    }

    /// Waits until `look` finds something.
    ///
    /// # Errors
    /// When it does not after all patience, or the session is over.
    pub async fn until<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&View) -> Option<T>,
    ) -> Result<T> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(found) = self.client.look(&mut look) {
                return Ok(found);
            }
            if let Some(outcome) = self.client.look(|view| view.session.outcome().cloned()) {
                bail!("waited for {what}, but the session is over: {outcome:?}");
            }
            ensure!(waited < PATIENCE, "waited for {what} in vain, {}", self.client.look(shown));
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }

    /// As [`Self::until`], over the losses of a connection that comes back by itself.
    ///
    /// # Errors
    /// When it does not come to pass after twice all patience.
    pub async fn until_patiently<T>(
        &self,
        what: &str,
        mut look: impl FnMut(&View) -> Option<T>,
    ) -> Result<T> {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(found) = self.client.look(&mut look) {
                return Ok(found);
            }
            ensure!(waited < 2 * PATIENCE, "waited for {what} in vain");
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }

    /// Runs to within `within_cm` of a place, around what stands in the way.
    ///
    /// # Errors
    /// When it is not reached after all patience.
    pub async fn go_to(&self, place: Position, within_cm: u32) -> Result<()> {
        let (mut waited, mut last) = (Duration::ZERO, self.position());
        let (mut stuck, mut aside) = (0_u32, 0_u32);
        loop {
            let here = self.position();
            if here.is_within(Position { y: here.y, ..place }, within_cm) {
                self.stand();
                tokio::time::sleep(STOPPING).await;
                return Ok(());
            }
            if PATIENCE < waited {
                self.stand();
                bail!("stuck at {here:?} on the way to {place:?}");
            }
            stuck = if here.is_within(last, 5) { stuck + 1 } else { 0 };
            last = here;
            if STUCK_LOOKS < stuck {
                (stuck, aside) = (0, STUCK_LOOKS);
            }
            aside = aside.saturating_sub(1);
            let yaw = Yaw::towards(place.x - here.x, place.z - here.z);
            let near = here.is_within(Position { y: here.y, ..place }, within_cm + 300);
            let right = if aside > 0 { 127 } else { 0 };
            let buttons = if near { 0 } else { RUN };
            self.client.set_input(Input { forward: 127, right, yaw, buttons });
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
    }

    /// Walks on in a direction until told otherwise.
    pub fn walk(&self, yaw: Yaw) {
        self.client.set_input(Input { forward: 127, yaw, ..Input::default() });
    }

    /// Stands still.
    pub fn stand(&self) {
        let yaw = self.client.look(|view| view.replica.yaw());
        self.client.set_input(Input { yaw, ..Input::default() });
    }

    /// Stands still and waits until they are at rest; returns where that is.
    ///
    /// # Errors
    /// When they slide on after all patience.
    pub async fn rest(&self) -> Result<Position> {
        self.stand();
        let (mut last, mut still) = (self.position(), Duration::ZERO);
        let mut waited = Duration::ZERO;
        while still < STOPPING {
            ensure!(waited < PATIENCE, "still moving at {last:?}");
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
            let here = self.position();
            still = if here == last { still + LOOK } else { Duration::ZERO };
            last = here;
        }
        Ok(last)
    }

    /// Does something and waits for the answer.
    ///
    /// # Errors
    /// When it cannot be sent, or is not answered in time.
    pub async fn act(&self, act: Act) -> Result<Answer> {
        let asked = self.client.act(act.clone());
        let answer = tokio::time::timeout(PATIENCE, asked).await;
        Ok(answer.with_context(|| format!("no answer to {act:?}"))??)
    }

    /// Does something that must be done; returns what was read by it.
    ///
    /// # Errors
    /// When it is not done.
    pub async fn does(&self, act: Act) -> Result<Option<String>> {
        match self.act(act.clone()).await? {
            Answer::Done { text, .. } => Ok(text),
            answer @ (Answer::Refused(_) | Answer::Unknown) => bail!("{act:?}: {answer:?}"),
        }
    }

    /// Tries something that must be refused; returns why.
    ///
    /// # Errors
    /// When it is not refused.
    pub async fn cannot(&self, act: Act) -> Result<Why> {
        match self.act(act.clone()).await? {
            Answer::Refused(why) => Ok(why),
            answer @ (Answer::Done { .. } | Answer::Unknown) => bail!("{act:?}: {answer:?}"),
        }
    }

    /// Speaks and waits for the answer.
    ///
    /// # Errors
    /// When it cannot be sent, or is not answered in time.
    pub async fn say(&self, to: Audience, text: &str) -> Result<Answer> {
        let said = self.client.say(to, Utterance::plain(text));
        Ok(tokio::time::timeout(PATIENCE, said).await.context("no answer to words")??)
    }

    /// Returns whether they heard these words.
    #[must_use]
    pub fn heard(&self, text: &str) -> bool {
        self.client.look(|view| has_heard(view, text))
    }

    /// Waits until they hear these words.
    ///
    /// # Errors
    /// When they do not after all patience.
    pub async fn hears(&self, text: &str) -> Result<()> {
        self.until(&format!("hearing `{text}`"), |view| has_heard(view, text).then_some(())).await
    }

    /// Takes an apple that lies near; returns it.
    ///
    /// # Errors
    /// When there is none, or it cannot be taken.
    pub async fn take_apple(&self) -> Result<EntityId> {
        let (apple, at) = self.nearest("apple").await?;
        self.go_to(at, 60).await?;
        self.does(Act::on(Verb::Take, apple)).await?;
        Ok(self.held("apple").await?.id)
    }

    /// Does something where the ground may still be on its way.
    ///
    /// # Errors
    /// When it is refused for anything else, or no ground comes.
    pub async fn does_on_new_ground(&self, act: Act) -> Result<()> {
        self.does_at_last(act, |why| matches!(why, Why::NoRoom)).await
    }

    /// Does something in a region that was lost, as soon as it has begun anew and has its ground.
    ///
    /// # Errors
    /// When it is refused for anything else, or the region does not come back.
    pub async fn does_once_it_is_back(&self, act: Act) -> Result<()> {
        self.does_at_last(act, |why| matches!(why, Why::NoRoom | Why::Interrupted)).await
    }

    async fn does_at_last(&self, act: Act, is_passing: fn(&Why) -> bool) -> Result<()> {
        let mut last = None;
        for _ in 0..GROUND_LOOKS {
            match self.act(act.clone()).await? {
                Answer::Done { .. } => return Ok(()),
                Answer::Refused(why) if is_passing(&why) => last = Some(why),
                answer @ (Answer::Refused(_) | Answer::Unknown) => bail!("{act:?}: {answer:?}"),
            }
            tokio::time::sleep(GROUND_LOOK).await;
        }
        bail!("{act:?} is not done in the end: {last:?}")
    }

    /// Checks that nothing befell their connection since they were looked at last.
    ///
    /// # Errors
    /// What befell it.
    pub fn noticed_nothing(&mut self) -> Result<()> {
        while let Some(event) = self.client.try_event() {
            ensure!(!befalls(&event), "{event:?}");
        }
        let lost = self.client.look(|view| view.events_lost);
        ensure!(lost == 0, "{lost} events were not looked at in time");
        Ok(())
    }

    /// As [`Self::noticed_nothing`]; checks as well that somebody or something was in view all the
    /// while, and was not announced anew.
    ///
    /// # Errors
    /// What befell the connection, or the view.
    pub fn kept_in_view(&mut self, whom: EntityId) -> Result<()> {
        while let Some(event) = self.client.try_event() {
            ensure!(!befalls(&event), "{event:?}");
            if let ClientEvent::Said(message) = &event
                && let ServerMessage::Announce(announce) = &**message
            {
                let is_new = announce.appear.iter().any(|appear| appear.entity == whom);
                ensure!(!is_new, "{whom} is announced anew: {announce:?}");
            }
        }
        let is_there = self.client.look(|view| view.replica.entity(whom).is_some());
        ensure!(is_there, "{whom} is not in view any more, {}", self.client.look(shown));
        self.noticed_nothing()
    }

    /// Waits for the end of the session and returns how it ended.
    ///
    /// # Errors
    /// When it goes on.
    pub async fn ends(&mut self) -> Result<protocol::session::Outcome> {
        let end = async {
            loop {
                match self.client.event().await {
                    Some(ClientEvent::Ended(outcome)) => return Some(outcome),
                    Some(_) => {}
                    None => return self.client.outcome().cloned(),
                }
            }
        };
        let ended = tokio::time::timeout(PATIENCE, end).await.context("the session goes on")?;
        ended.context("the session ended without a word")
    }
}

/// Whether an event is something that people would rather not have met with. A change of pace may
/// be this machine's doing: others test beside.
fn befalls(event: &ClientEvent) -> bool {
    match event {
        ClientEvent::Said(message) => {
            matches!(**message, ServerMessage::Stopping(_) | ServerMessage::Farewell(_))
        }
        ClientEvent::Begun { .. } | ClientEvent::Ground { .. } => false,
        ClientEvent::Resumed(_) | ClientEvent::Interrupted { .. } | ClientEvent::Ended(_) => true,
    }
}

/// Returns what somebody knows, for a test that fails.
fn shown(view: &View) -> String {
    let here = view.replica.body().position();
    let entities: Vec<String> = view
        .replica
        .entities()
        .map(|entity| format!("{} {:?} {:?}", entity.id, entity.being, entity.newest().1.position))
        .collect();
    format!("at {here:?} with {:?} in view of {entities:#?}", view.replica.log())
}

/// Tries to come in, which must be refused; returns the refusal.
///
/// # Errors
/// When it is not refused.
pub async fn refused(options: ConnectOptions) -> Result<ConnectError> {
    match Box::pin(Client::connect(options)).await {
        Ok(_) => bail!("let in against all expectation"),
        Err(error) => Ok(error),
    }
}

/// Runs an asynchronous test on one thread.
///
/// # Errors
/// The test's.
pub fn run(test: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test)
}

fn has_heard(view: &View, text: &str) -> bool {
    view.replica.log().heard.iter().any(|heard| heard.utterance.text() == text)
}

fn whereabouts(entity: &Entity) -> (EntityId, Position) {
    (entity.id, entity.newest().1.position)
}
