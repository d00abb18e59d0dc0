package sandbox

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode"
)

// Business is an entry of the directory.
type Business struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	Trade   string  `json:"trade"`
	City    string  `json:"city"`
	State   string  `json:"state"`
	Phone   string  `json:"phone"`
	Website string  `json:"website"`
	Rating  float64 `json:"rating"`
	Reviews int     `json:"reviews"`
	Open    bool    `json:"open"`
}

// Directory is an immutable list of businesses.
type Directory struct {
	businesses []Business
	// words are the spellings of each trade, city and state that a query may hold, in lower case.
	words []word
}

// word is one spelling of something that a query can ask for.
type word struct {
	text  string
	facet facet
	// value is what the entries hold in the facet.
	value string
}

type facet int

const (
	byTrade facet = iota
	byCity
	byState
)

func (b *Business) value(f facet) string {
	return [...]string{byTrade: b.Trade, byCity: b.City, byState: b.State}[f]
}

type trade struct {
	name, plural string
	// signs are how such businesses call themselves.
	signs []string
}

type city struct {
	name, state, areaCode string
}

// NewDirectory makes the sample data: the same entries with the same ids every time.
func NewDirectory() *Directory {
	d := &Directory{}
	for _, c := range cities() {
		for _, t := range trades() {
			d.add(t, c)
		}
	}
	for _, t := range trades() {
		d.words = append(d.words, word{t.name, byTrade, t.name}, word{t.plural, byTrade, t.name})
	}
	for _, c := range cities() {
		d.words = append(d.words, word{strings.ToLower(c.name), byCity, c.name}, word{strings.ToLower(c.state), byState, c.state})
	}
	// The longest spelling wins: "san francisco" before a shorter word inside it.
	slices.SortStableFunc(d.words, func(a, b word) int { return cmp.Compare(len(b.text), len(a.text)) })
	d.words = slices.CompactFunc(d.words, func(a, b word) bool { return a == b })
	return d
}

const (
	minPerTrade = 2
	maxPerTrade = 4
	minRating   = 30 // tenths of a star
	maxRating   = 50
	maxReviews  = 480
	fictional   = 100 // telephone numbers 555-0100 to 555-0199 are reserved for fiction
)

// add makes the businesses of one trade in one city. Their random numbers depend on nothing else, so that a new city or trade
// leaves the others as they are.
func (d *Directory) add(t trade, c city) {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(t.name + "/" + c.name))
	random := rand.New(rand.NewPCG(hash.Sum64(), 0)) //nolint:gosec // sample data wants repeatable numbers
	names := random.Perm(len(surnames()))
	for i := range minPerTrade + random.IntN(maxPerTrade-minPerTrade+1) {
		name := surnames()[names[i]] + " " + t.signs[random.IntN(len(t.signs))]
		d.businesses = append(d.businesses, Business{
			ID: fmt.Sprintf("biz-%04d", len(d.businesses)+1), Name: name, Trade: t.name, City: c.name, State: c.state,
			Phone:   fmt.Sprintf("(%s) 555-01%02d", c.areaCode, random.IntN(fictional)),
			Website: "https://" + slug(name+" "+c.name) + ".example",
			Rating:  float64(minRating+random.IntN(maxRating-minRating+1)) / 10,
			Reviews: 1 + random.IntN(maxReviews),
			Open:    random.IntN(4) > 0,
		})
	}
}

// Search finds the businesses that fit the query, the best rated first. Trades (singular or plural), cities and states are
// recognised in any order: "dentists in california", "plumber, Seattle". Several of one kind mean any of them. A word that is
// none of these has to be in the business's name.
func (d *Directory) Search(query string) []Business {
	rest := " " + strings.Join(strings.FieldsFunc(strings.ToLower(query), notInWord), " ") + " "
	wanted := map[facet][]string{}
	for _, w := range d.words {
		if found := " " + w.text + " "; strings.Contains(rest, found) {
			rest = strings.ReplaceAll(rest, found, " ")
			wanted[w.facet] = append(wanted[w.facet], w.value)
		}
	}
	inName := slices.DeleteFunc(strings.Fields(rest), isFiller)
	if len(wanted) == 0 && len(inName) == 0 {
		return nil
	}
	var found []Business
	for _, b := range d.businesses {
		if b.fits(wanted, inName) {
			found = append(found, b)
		}
	}
	slices.SortStableFunc(found, func(a, b Business) int {
		return cmp.Or(cmp.Compare(b.Rating, a.Rating), cmp.Compare(b.Reviews, a.Reviews))
	})
	return found
}

func (b *Business) fits(wanted map[facet][]string, inName []string) bool {
	for f, values := range wanted {
		if !slices.Contains(values, b.value(f)) {
			return false
		}
	}
	name := strings.FieldsFunc(strings.ToLower(b.Name), notInWord)
	for _, w := range inName {
		if !slices.Contains(name, w) {
			return false
		}
	}
	return true
}

func notInWord(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r)
}

func isFiller(w string) bool {
	return slices.Contains([]string{"a", "all", "and", "any", "at", "best", "find", "for", "good", "in", "me", "near", "of", "or", "the", "with"}, w)
}

func slug(s string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(s), notInWord), "-")
}
