//! What becomes of one name that has to be forwarded.

use super::{
    Alert, Charge, Ledger, Paid,
    bucket::{bits, capacity},
    cost,
    evidence::{Short, Sign},
    limits,
    standing::Newcomer,
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
    /// None where its zone knows it.
    newcomer: Option<Newcomer<'a>>,
    /// Raises no flag.
    is_approved: bool,
    /// Of the name and of all that goes with it, in 1/256 bit.
    cost: u64,
    now: Moment,
}

/// Whose sign it is.
#[derive(Clone, Copy)]
enum Whose {
    Zone,
    Agent,
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
            Err(Reason::NamesFrozen | Reason::NameSuspicious) if case.newcomer.is_some() => {
                account.refuse_newcomer(case.fingerprint, now);
            }
            Err(_) => account.refuse(),
        }
        Charge { verdict, alerts }
    }

    /// Charges that an answer which left under `wildcard` is kept fresh for another period, because it was
    /// used in the last one; false where it must not be. To be asked at the end of each period, which is
    /// counted from the charge; that nobody used an answer is paid for by the charge itself.
    pub fn renew(&mut self, terms: &LeakTerms, wildcard: &Wildcard, now: Moment) -> bool {
        let now = self.advance(now);
        self.agent.know(terms.budget, now);
        let at = self.open(wildcard, now);
        let standing = &mut self.accounts.at(at).standing;
        let fits = standing.fits(wildcard.budget, cost::RENEWAL, now)
            && self.agent.fits(terms.budget, cost::RENEWAL, now);
        let is_renewed = fits && !self.is_quarantined;
        if is_renewed {
            standing.add(wildcard.budget, cost::RENEWAL, now);
            self.agent.add(terms.budget, cost::RENEWAL, now);
        }
        is_renewed
    }

    fn case<'a>(
        &mut self,
        terms: &'a LeakTerms,
        wildcard: &'a Wildcard,
        name: &'a HostName,
        now: Moment,
    ) -> Case<'a> {
        self.agent.know(terms.budget, now);
        let prefix = wildcard.prefix(name);
        let fingerprint = cost::fingerprint(self.key, name.as_str());
        let at = self.open(wildcard, now);
        let account = self.accounts.at(at);
        let silence = account.standing.silence(now);
        let memory = account.memory();
        let newcomer = (!memory.seen.holds(fingerprint)).then(|| Newcomer {
            prefix,
            cost: cost::new(prefix),
            look: trigrams::look(prefix),
        });
        let name = newcomer.map_or_else(|| cost::known(memory.seen.len()), |newcomer| newcomer.cost);
        let cost = name + cost::FIXED + silence;
        let is_approved = memory.is_approved(fingerprint);
        Case { terms, wildcard, prefix, fingerprint, at, newcomer, is_approved, cost, now }
    }

    /// First what is in force, then what fits, then what the name itself brings to light, then its price.
    fn judge(&mut self, case: &Case<'_>, alerts: &mut Vec<Alert>) -> Result<Paid, Reason> {
        if self.is_quarantined {
            return Err(Reason::AgentQuarantined);
        }
        self.look_for_secrets(case, alerts)?;
        let is_held = case.newcomer.is_some() && !case.is_approved;
        if is_held && self.accounts.at(case.at).standing.is_frozen(case.now) {
            return Err(Reason::NamesFrozen);
        }
        self.look_for_room(case, alerts)?;
        if !case.is_approved {
            self.look_for_signs(case, alerts)?;
        }
        Ok(self.pay(case))
    }

    fn look_for_secrets(&mut self, case: &Case<'_>, alerts: &mut Vec<Alert>) -> Result<(), Reason> {
        let memory = self.accounts.at(case.at).memory();
        let Some(secret) = memory.secret_in(&case.terms.secrets, case.prefix) else { return Ok(()) };
        let action = self.raise(case, Whose::Zone, Sign::Secret { secret: Short::new(secret) }, alerts);
        refusal(action, case.newcomer.is_some())
    }

    fn look_for_room(&mut self, case: &Case<'_>, alerts: &mut Vec<Alert>) -> Result<(), Reason> {
        let Case { terms, wildcard, cost, now, .. } = *case;
        if !self.accounts.at(case.at).standing.fits(wildcard.budget, cost, now) {
            self.note_spent(case, alerts);
            return Err(Reason::LeakBudgetSpent);
        }
        if self.agent.fits(terms.budget, cost, now) { Ok(()) } else { Err(Reason::LeakBudgetSpent) }
    }

    /// Two zones whose budget is spent are one agent that means it.
    fn note_spent(&mut self, case: &Case<'_>, alerts: &mut Vec<Alert>) {
        let zone = &case.wildcard.zone;
        let day = Duration::from_secs(limits::DAY.into());
        let before = self.spent.replace((zone.clone(), case.now));
        let Some((other, at)) = before.filter(|(other, _)| other != zone) else { return };
        if case.now.since(at) < day {
            let sign = Sign::BothSpent { other: Short::new(other.as_str()) };
            alerts.extend(self.raise_at(case.at, sign, LeakAction::Quarantine, case.now));
        }
    }

    fn look_for_signs(&mut self, case: &Case<'_>, alerts: &mut Vec<Alert>) -> Result<(), Reason> {
        let (mut of_zone, mut of_agent) = (Vec::new(), Vec::new());
        let both = [
            (&mut self.accounts.at(case.at).standing, case.wildcard.budget, &mut of_zone),
            (&mut self.agent, case.terms.budget, &mut of_agent),
        ];
        for (standing, budget, signs) in both {
            if let Some(newcomer) = case.newcomer {
                signs.extend(standing.settle(case.now));
                standing.signs(newcomer, case.now, signs);
            }
            let used = standing.level(budget, case.now) + case.cost;
            if used > capacity(budget) / 2 {
                signs.push(Sign::HalfSpent { used: bits(used) });
            }
        }
        let of_name = case.newcomer.filter(Newcomer::is_long);
        of_zone.extend(
            of_name.map(|name| Sign::LongName { bits: bits(name.cost), name: Short::new(name.prefix) }),
        );
        let of_zone = of_zone.into_iter().map(|sign| (Whose::Zone, sign));
        let of_agent = of_agent.into_iter().map(|sign| (Whose::Agent, sign));
        let signs: Vec<_> = of_zone.chain(of_agent).collect();
        let hardest = signs.into_iter().map(|(whose, sign)| self.raise(case, whose, sign, alerts)).max();
        hardest.map_or(Ok(()), |action| refusal(action, case.newcomer.is_some()))
    }

    fn pay(&mut self, case: &Case<'_>) -> Paid {
        let Case { terms, wildcard, prefix, fingerprint, cost, now, .. } = *case;
        let account = self.accounts.at(case.at);
        self.agent.add(terms.budget, cost, now);
        account.standing.add(wildcard.budget, cost, now);
        if let Some(newcomer) = case.newcomer {
            // What is about one zone is for its own account to say.
            if account.standing.names(now).0 < limits::SPREAD {
                self.agent.await_connection(fingerprint, now);
            }
            self.agent.welcome(newcomer, now);
            account.standing.await_connection(fingerprint, now);
            account.standing.welcome(newcomer, now);
            account.memory().left(prefix);
        }
        account.memory().seen.touch(fingerprint);
        Paid(cost)
    }

    /// Does what the policy says at `sign`, and returns it.
    fn raise(&mut self, case: &Case<'_>, whose: Whose, sign: Sign, alerts: &mut Vec<Alert>) -> LeakAction {
        let action = case.terms.actions.at(sign.flag());
        alerts.extend(match whose {
            Whose::Zone => self.raise_at(case.at, sign, action, case.now),
            Whose::Agent => self.raise_over_all(case.at, sign, action, case.now),
        });
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
