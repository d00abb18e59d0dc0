package query

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/galley-engine/galley/schemas/credit"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
)

// RolloverRule says what becomes of credits that are left at the end of a period.
type RolloverRule string

const (
	// RolloverNone: they expire.
	RolloverNone RolloverRule = "none"
	// RolloverCapped: up to Rollover.Max is carried into the next period, at whose end it expires if it is not carried again; the rest expires.
	RolloverCapped RolloverRule = "capped"
	// RolloverAll: they never expire.
	RolloverAll RolloverRule = "all"
)

// Rollover is the rule of a plan. Max is for RolloverCapped alone.
type Rollover struct {
	Rule RolloverRule `json:"rule"`
	Max  credit.Micro `json:"max,omitempty"`
}

// PlanLimits are what a plan allows; nil where it says nothing.
type PlanLimits struct {
	// MaxConcurrency is how many executions may be under way at the same time. It is told as event.Limits while the plan holds.
	MaxConcurrency *int `json:"max_concurrency,omitempty"`
	// Overdraft is how far debits may bring the balance below 0. It is set while the plan holds.
	Overdraft *credit.Micro `json:"overdraft,omitempty"`
}

// Price is what the operator charges for an item in money. It is kept and shown; galley collects no money.
type Price struct {
	Item string `json:"item"`
	// Amount is a decimal, exactly as it was published.
	Amount string `json:"amount"`
	// Currency is a code of ISO 4217.
	Currency string `json:"currency"`
}

// PlanTerms are what a plan gives.
type PlanTerms struct {
	Name           string       `json:"name"`
	MonthlyCredits credit.Micro `json:"monthly_credits"`
	Rollover       Rollover     `json:"rollover"`
	Features       []string     `json:"features"`
	Limits         PlanLimits   `json:"limits"`
	PriceList      []Price      `json:"price_list"`
	// Priority is that of the plan's grants, 0 to MaxPriority.
	Priority int `json:"priority"`
}

// Plan is an immutable version of a plan.
type Plan struct {
	PlanID  string `json:"plan_id"`
	Version int    `json:"version"`
	PlanTerms
	PublishedAt time.Time `json:"published_at"`
	// RetiredAt is when the plan was closed to new subscriptions, absent while it is open.
	RetiredAt *time.Time `json:"retired_at,omitempty"`
}

// PublishPlanRequest publishes a version of a plan. Terms that are those of a version already are that version. Version, where it is not 0,
// is the version that this is to be: it is refused unless it is the next one, or has these terms.
type PublishPlanRequest struct {
	PlanID  string `json:"plan_id"`
	Version int    `json:"version,omitempty"`
	PlanTerms
	Actor event.Actor `json:"actor"`
}

// PublishPlanReply is the published version.
type PublishPlanReply struct {
	Plan Plan `json:"plan"`
	// Repeated tells that the version was there before.
	Repeated bool `json:"repeated"`
}

// PlansRequest asks for the newest versions of plans, in the order of their ids.
type PlansRequest struct {
	// After is the id of the last plan of the previous page, "" for the first page.
	After string `json:"after,omitempty"`
	Limit int    `json:"limit"`
	// Retired includes plans that are closed to new subscriptions.
	Retired bool `json:"retired,omitempty"`
}

// PlansReply is a page of plans. More tells that there are others after it.
type PlansReply struct {
	Plans []Plan `json:"plans"`
	More  bool   `json:"more,omitempty"`
}

// PlanRequest asks for a version of a plan, the newest one when Version is 0.
type PlanRequest struct {
	PlanID  string `json:"plan_id"`
	Version int    `json:"version,omitempty"`
}

// RetirePlanRequest closes a plan, in all its versions, to new subscriptions.
type RetirePlanRequest struct {
	PlanID string      `json:"plan_id"`
	Actor  event.Actor `json:"actor"`
}

// Bounds of a plan.
const (
	MaxPlanFeatures = 100
	MaxPlanPrices   = 100
	MaxPlanCredits  = 1_000_000_000 * credit.One

	maxConcurrency  = 1000
	maxLine         = 200
	maxAmountDigits = 15
)

// Violations are the places of the terms that break a rule.
func (t *PlanTerms) Violations() (found []problem.Violation) {
	refuse := func(broken bool, path, message string) {
		if broken {
			found = append(found, problem.Violation{Path: path, Message: message})
		}
	}
	refuse(!isText(t.Name), "/name", "must be a line of 1 to 200 bytes")
	refuse(!isAmount(t.MonthlyCredits), "/monthly_credits", "must be 0 to "+MaxPlanCredits.String())
	switch t.Rollover.Rule {
	case RolloverNone, RolloverAll:
		refuse(t.Rollover.Max != 0, "/rollover/max", "is for the rule capped alone")
	case RolloverCapped:
		refuse(t.Rollover.Max <= 0 || !isAmount(t.Rollover.Max), "/rollover/max", "must be above 0 and at most "+MaxPlanCredits.String())
	default:
		refuse(true, "/rollover/rule", "must be none, all or capped")
	}
	refuse(len(t.Features) > MaxPlanFeatures, "/features", "must have at most 100 items")
	for i, feature := range t.Features {
		refuse(!subject.ValidID(feature), "/features/"+strconv.Itoa(i), subject.ErrInvalidID.Error())
	}
	if most := t.Limits.MaxConcurrency; most != nil {
		refuse(*most < 1 || *most > maxConcurrency, "/limits/max_concurrency", "must be 1 to 1000")
	}
	if overdraft := t.Limits.Overdraft; overdraft != nil {
		refuse(!isAmount(*overdraft), "/limits/overdraft", "must be 0 to "+MaxPlanCredits.String())
	}
	refuse(t.Priority < 0 || t.Priority > MaxPriority, "/priority", "must be 0 to 100")
	refuse(len(t.PriceList) > MaxPlanPrices, "/price_list", "must have at most 100 items")
	for i, price := range t.PriceList {
		place := "/price_list/" + strconv.Itoa(i)
		refuse(!isText(price.Item), place+"/item", "must be a line of 1 to 200 bytes")
		refuse(!isCurrency(price.Currency), place+"/currency", "must be three capital letters, a code of ISO 4217")
		most := minorUnits(price.Currency)
		refuse(!isMoney(price.Amount, most), place+"/amount", "must be a decimal such as \"49\" with at most "+strconv.Itoa(most)+" decimal places")
	}
	return found
}

func isText(text string) bool {
	return text != "" && len(text) <= maxLine && utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

func isAmount(amount credit.Micro) bool { return amount >= 0 && amount <= MaxPlanCredits }

func isCurrency(code string) bool {
	return len(code) == 3 && strings.IndexFunc(code, func(r rune) bool { return r < 'A' || r > 'Z' }) < 0
}

// minorUnits is how many decimal places amounts of a currency have, by ISO 4217.
func minorUnits(currency string) int {
	switch currency {
	case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF":
		return 0
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		return 3
	}
	return 2
}

func isMoney(amount string, places int) bool {
	whole, fraction, dotted := strings.Cut(amount, ".")
	digits := whole + fraction
	return whole != "" && (whole == "0" || whole[0] != '0') && len(fraction) <= places && (!dotted || fraction != "") &&
		len(digits) <= maxAmountDigits && strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) < 0
}
