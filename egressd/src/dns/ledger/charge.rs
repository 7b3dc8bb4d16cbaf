//! What becomes of one name that has to be forwarded.

use super::{
    Alert, Charge, Ledger, Paid,
    account::Newcomer,
    bucket::{Pace, bits, capacity},
    cost,
    evidence::{Evidence, Short, Sign},
    limits::{DAY, HOUR},
    trigrams,
};
use crate::policy::{HostName, LeakAction, LeakTerms, Moment, Reason, Wildcard};
use std::time::Duration;

/// A name on its way out.
struct Case<'a> {
    terms: &'a LeakTerms,
    wildcard: &'a Wildcard,
    prefix: &'a str,
    fingerprint: u64,
    /// The place of its account.
    at: usize,
    is_known: bool,
    /// Raises no flag.
    is_approved: bool,
    /// Of the name alone, in 1/256 bit.
    name_cost: u64,
    now: Moment,
}

impl Ledger {
    /// Charges `name`, which has to be forwarded, or says why it must not be. A name that is refused costs
    /// nothing and stays unknown.
    pub fn charge(&mut self, terms: &LeakTerms, wildcard: &Wildcard, name: &HostName, now: Moment) -> Charge {
        let now = self.advance(now);
        let case = self.case(terms, wildcard, name, now);
        let mut alerts = Vec::new();
        let verdict = self.judge(&case, &mut alerts);
        let account = self.accounts.at(case.at);
        match verdict {
            Ok(_) => {}
            Err(Reason::NamesFrozen | Reason::NameSuspicious) if !case.is_known => {
                account.refuse_newcomer(case.fingerprint, now);
            }
            Err(_) => account.refuse(),
        }
        Charge { verdict, alerts }
    }

    fn case<'a>(
        &mut self,
        terms: &'a LeakTerms,
        wildcard: &'a Wildcard,
        name: &'a HostName,
        now: Moment,
    ) -> Case<'a> {
        let prefix = wildcard.prefix(name);
        let fingerprint = cost::fingerprint(self.key, name.as_str());
        let at = self.accounts.open(&wildcard.zone, wildcard.budget, now);
        let memory = self.accounts.at(at).memory();
        let is_known = memory.seen.holds(fingerprint);
        let name_cost = if is_known { cost::known(memory.seen.len()) } else { cost::new(prefix) };
        let is_approved = memory.is_approved(fingerprint);
        Case { terms, wildcard, prefix, fingerprint, at, is_known, is_approved, name_cost, now }
    }

    /// First what is in force, then what fits, then what the name itself brings to light, then its price.
    fn judge(&mut self, case: &Case<'_>, alerts: &mut Vec<Alert>) -> Result<Paid, Reason> {
        if self.is_quarantined {
            return Err(Reason::AgentQuarantined);
        }
        self.look_for_secrets(case, alerts)?;
        let is_new = !case.is_known && !case.is_approved;
        if is_new && self.accounts.at(case.at).is_frozen(case.now) {
            return Err(Reason::NamesFrozen);
        }
        let cost = case.name_cost + cost::FIXED;
        self.look_for_room(case, cost, alerts)?;
        self.look_for_signs(case, cost, is_new, alerts)?;
        Ok(self.pay(case, cost))
    }

    fn look_for_secrets(&mut self, case: &Case<'_>, alerts: &mut Vec<Alert>) -> Result<(), Reason> {
        let memory = self.accounts.at(case.at).memory();
        let Some(secret) = memory.secret_in(&case.terms.secrets, case.prefix) else { return Ok(()) };
        let action = self.raise(case, Sign::Secret { secret: Short::new(secret) }, alerts);
        refusal(action, !case.is_known)
    }

    fn look_for_room(&mut self, case: &Case<'_>, cost: u64, alerts: &mut Vec<Alert>) -> Result<(), Reason> {
        let Case { terms, wildcard, now, .. } = case;
        if !self.accounts.at(case.at).fits(wildcard.budget, cost, *now) {
            self.note_spent(case, alerts);
            return Err(Reason::LeakBudgetSpent);
        }
        let pace = Pace { budget: terms.budget, slow_until: Moment::default() };
        let fits = self.total.level_at(pace, *now).saturating_add(cost) <= capacity(terms.budget);
        if fits { Ok(()) } else { Err(Reason::LeakBudgetSpent) }
    }

    fn look_for_signs(
        &mut self,
        case: &Case<'_>,
        cost: u64,
        is_new: bool,
        alerts: &mut Vec<Alert>,
    ) -> Result<(), Reason> {
        let Case { wildcard, prefix, name_cost, now, .. } = *case;
        let account = self.accounts.at(case.at);
        let mut signs = Vec::new();
        if is_new {
            signs.extend(account.settle(now));
            let newcomer = Newcomer { prefix, cost: name_cost, look: trigrams::look(prefix) };
            account.signs(newcomer, now, |sign| signs.push(sign));
        }
        let level = account.level(wildcard.budget, now) + cost;
        if !case.is_approved && level > capacity(wildcard.budget) / 2 {
            signs.push(Sign::HalfSpent { used: bits(level) });
        }
        let hardest = signs.into_iter().map(|sign| self.raise(case, sign, alerts)).max();
        self.tell_of_total(case, cost, alerts);
        hardest.map_or(Ok(()), |action| refusal(action, is_new))
    }

    fn pay(&mut self, case: &Case<'_>, cost: u64) -> Paid {
        let Case { terms, wildcard, prefix, name_cost, now, .. } = *case;
        let pace = Pace { budget: terms.budget, slow_until: Moment::default() };
        self.total.add(pace, cost, now);
        let account = self.accounts.at(case.at);
        account.add(wildcard.budget, cost, now);
        if !case.is_known {
            let newcomer = Newcomer { prefix, cost: name_cost, look: trigrams::look(prefix) };
            account.welcome(newcomer, case.fingerprint, now);
            account.memory().left(prefix);
        }
        account.memory().seen.touch(case.fingerprint);
        Paid(cost)
    }

    /// Two zones whose budget is spent are one agent that means it.
    fn note_spent(&mut self, case: &Case<'_>, alerts: &mut Vec<Alert>) {
        let zone = &case.wildcard.zone;
        let day = Duration::from_secs(DAY.into());
        let before = self.spent.replace((zone.clone(), case.now));
        let Some((other, at)) = before.filter(|(other, _)| other != zone) else { return };
        if case.now.since(at) < day {
            let sign = Sign::BothSpent { other: Short::new(other.as_str()) };
            alerts.extend(self.raise_at(case.at, sign, LeakAction::Quarantine, case.now));
        }
    }

    fn tell_of_total(&mut self, case: &Case<'_>, cost: u64, alerts: &mut Vec<Alert>) {
        let Case { terms, now, .. } = case;
        let pace = Pace { budget: terms.budget, slow_until: Moment::default() };
        let level = self.total.level_at(pace, *now) + cost;
        let hour = Duration::from_secs(HOUR.into());
        let is_told = self.total_told.is_some_and(|told| now.since(told) < hour);
        if level <= capacity(terms.budget) / 2 || is_told {
            return;
        }
        self.total_told = Some(*now);
        let (sign, used, capacity) = (Sign::AgentHalfSpent, bits(level), terms.budget.capacity());
        let evidence = Evidence { sign, used, capacity, looked_up: 0, connected: 0 };
        let (flag, zone) = (sign.flag(), case.wildcard.zone.clone());
        alerts.push(Alert { flag, action: terms.actions.at(flag), zone, evidence: evidence.to_string() });
    }

    /// Does what the policy says at `sign`, and returns it.
    fn raise(&mut self, case: &Case<'_>, sign: Sign, alerts: &mut Vec<Alert>) -> LeakAction {
        let action = case.terms.actions.at(sign.flag());
        alerts.extend(self.raise_at(case.at, sign, action, case.now));
        action
    }
}

/// What becomes of the name that raised a flag.
fn refusal(action: LeakAction, is_new: bool) -> Result<(), Reason> {
    match action {
        LeakAction::Log | LeakAction::Flag | LeakAction::RateLimit => Ok(()),
        LeakAction::Freeze if is_new => Err(Reason::NamesFrozen),
        LeakAction::Freeze => Ok(()),
        LeakAction::Refuse | LeakAction::Quarantine => Err(Reason::NameSuspicious),
    }
}
