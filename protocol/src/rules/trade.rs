//! Exchanges: offering, accepting, declining and taking back.
//!
//! Accepting checks both sides again and is one list of effects: all of it happens, or nothing.

use super::View;
use super::draft::Draft;
use super::effect::Effect;
use super::event::Detail;
use super::kind::Lot;
use super::limits::{OFFER_LOTS_MAX, OFFER_MS, OFFERS_ASKED_MAX, OFFERS_OPEN_MAX, STACK_MAX};
use super::offer::{Offer, OfferEnd, OfferId};
use super::thing::Holder;
use super::ticks;
use super::verb::{Args, Portion};
use super::why::Why;
use crate::ids::EntityId;

pub fn offer<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let to = draft.target()?;
    let act = draft.act;
    let Args::Deal { give, want } = &act.args else { return Err(Why::BadArgs) };
    draft.other(to)?;
    check_terms(draft, give, want)?;
    check_open_offers(draft, to)?;
    let mut give_lots = Vec::new();
    for portion in give {
        let (thing, _) = draft.held(portion.thing)?;
        if thing.count < portion.count {
            return Err(Why::NotHolding { held: thing.count });
        }
        give_lots.push(Lot { kind: thing.kind, count: portion.count });
    }
    let id = OfferId(draft.mint());
    let until = draft.now().after(ticks(OFFER_MS, draft.view.hz()));
    let (give, want) = (give.clone(), want.clone());
    draft.push(Effect::Offer(Offer { id, from: draft.id, to, give, give_lots, want, until }))?;
    draft.happen(Some(to), Detail::Offered(id));
    Ok(())
}

/// Checks what can be checked of the terms alone.
fn check_terms<V: View + ?Sized>(
    draft: &Draft<'_, V>,
    give: &[Portion],
    want: &[Lot],
) -> Result<(), Why> {
    let is_short = give.len() <= OFFER_LOTS_MAX && want.len() <= OFFER_LOTS_MAX;
    let is_something = !give.is_empty() || !want.is_empty();
    let counts = give.iter().map(|portion| portion.count).chain(want.iter().map(|lot| lot.count));
    let is_counted = counts.into_iter().all(|count| (1..=STACK_MAX).contains(&count));
    let is_new =
        |index: usize, id: EntityId| give.iter().take(index).all(|earlier| earlier.thing != id);
    let is_distinct = give.iter().enumerate().all(|(index, it)| is_new(index, it.thing));
    let is_new_kind =
        |index: usize, lot: &Lot| want.iter().take(index).all(|earlier| earlier.kind != lot.kind);
    let is_distinct =
        is_distinct && want.iter().enumerate().all(|(index, lot)| is_new_kind(index, lot));
    if !(is_short && is_something && is_counted && is_distinct) {
        return Err(Why::BadArgs);
    }
    want.iter().try_for_each(|lot| draft.kind(lot.kind).map(|_| ()))
}

fn check_open_offers<V: View + ?Sized>(draft: &Draft<'_, V>, to: EntityId) -> Result<(), Why> {
    let offers = || draft.view.things().offers();
    let open = offers().filter(|offer| offer.from == draft.id).count();
    let asked = offers().filter(|offer| offer.to == to).count();
    let too_many = |max: usize| Why::TooManyOffers { max: u32::try_from(max).unwrap_or(u32::MAX) };
    if OFFERS_OPEN_MAX <= open {
        return Err(too_many(OFFERS_OPEN_MAX));
    }
    if OFFERS_ASKED_MAX <= asked {
        return Err(too_many(OFFERS_ASKED_MAX));
    }
    Ok(())
}

pub fn accept<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let offer = named_offer(draft)?;
    if offer.to != draft.id || offer.until < draft.now() {
        return Err(Why::NoSuchOffer);
    }
    draft.other(offer.from)?;
    let given = given_stacks(draft, offer)?;
    let wanted = wanted_stacks(draft, offer)?;
    for (thing, count) in given {
        draft.transfer(thing, count, Holder::Held(offer.to))?;
    }
    for (thing, count) in wanted {
        draft.transfer(thing, count, Holder::Held(offer.from))?;
    }
    // Only the end counts: two full pockets can still swap.
    draft.check_room(offer.to)?;
    draft.check_room(offer.from)?;
    draft.push(Effect::EndOffer { offer: offer.id, end: OfferEnd::Accepted })?;
    let (gave, got) = (offer.give_lots.clone(), offer.want.clone());
    draft.happen(Some(offer.from), Detail::Traded { offer: offer.id, gave, got });
    Ok(())
}

/// Returns the stacks that are given, still held by who offered them.
fn given_stacks<V: View + ?Sized>(
    draft: &mut Draft<'_, V>,
    offer: &Offer,
) -> Result<Vec<(EntityId, u32)>, Why> {
    let mut stacks = Vec::new();
    for (portion, lot) in offer.give.iter().zip(&offer.give_lots) {
        let lacking = |held: u32| Why::TheyLack { kind: lot.kind, count: lot.count - held };
        let thing = draft.thing(portion.thing).map_err(|_| lacking(0))?;
        if thing.holder != Holder::Held(offer.from) || thing.kind != lot.kind {
            return Err(lacking(0));
        }
        if thing.count < portion.count {
            return Err(lacking(thing.count));
        }
        stacks.push((portion.thing, portion.count));
    }
    Ok(stacks)
}

/// Returns the stacks of who accepts that make up what is wanted.
fn wanted_stacks<V: View + ?Sized>(
    draft: &mut Draft<'_, V>,
    offer: &Offer,
) -> Result<Vec<(EntityId, u32)>, Why> {
    let mut stacks = Vec::new();
    for &lot in &offer.want {
        let chosen = draft.choose(offer.to, lot);
        let missing = |count| Why::Missing { kind: lot.kind, count };
        stacks.extend(chosen.map_err(missing)?);
    }
    Ok(stacks)
}

pub fn decline<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let offer = named_offer(draft)?;
    if offer.to != draft.id {
        return Err(Why::NoSuchOffer);
    }
    end(draft, offer.id, offer.from, OfferEnd::Declined)
}

pub fn withdraw<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let offer = named_offer(draft)?;
    if offer.from != draft.id {
        return Err(Why::NoSuchOffer);
    }
    end(draft, offer.id, offer.to, OfferEnd::Withdrawn)
}

fn end<V: View + ?Sized>(
    draft: &mut Draft<'_, V>,
    offer: OfferId,
    other: EntityId,
    end: OfferEnd,
) -> Result<(), Why> {
    draft.push(Effect::EndOffer { offer, end })?;
    draft.happen(Some(other), Detail::Offered(offer));
    Ok(())
}

fn named_offer<'a, V: View + ?Sized>(draft: &Draft<'a, V>) -> Result<&'a Offer, Why> {
    let Args::Offer(id) = draft.act.args else { return Err(Why::BadArgs) };
    draft.view.things().offer(id).ok_or(Why::NoSuchOffer)
}
