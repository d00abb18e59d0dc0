// Package credit holds the unit of money. One credit is 1,000,000 micro-credits; inside galley every amount is a whole number
// of micro-credits, outside (JSON, YAML, the command line) it is the decimal number of credits with at most six places.
package credit

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Micro is an amount in micro-credits.
type Micro int64

// One is one credit.
const One Micro = 1_000_000

const places = 6

// ErrSyntax says that a text is not a decimal amount with at most six places, or that it does not fit into 64 bits. Amounts are
// refused rather than rounded.
var ErrSyntax = errors.New("not a decimal amount of credits with at most six places")

// Parse reads a decimal amount of credits such as "2", "0.08" or "-1.5". It never rounds: more than six places is ErrSyntax.
func Parse(s string) (Micro, error) {
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, dotted := strings.Cut(digits, ".")
	if whole == "" || len(fraction) > places || dotted && fraction == "" || !isDigits(whole) || !isDigits(fraction) {
		return 0, fmt.Errorf("%q: %w", s, ErrSyntax)
	}
	units, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", places-len(fraction)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q: %w", s, ErrSyntax)
	}
	if negative {
		units = -units
	}
	return Micro(units), nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// String is the shortest decimal form, in credits.
func (m Micro) String() string {
	return string(m.appendDecimal(nil))
}

func (m Micro) appendDecimal(b []byte) []byte {
	if m < 0 {
		b = append(b, '-')
	}
	units := magnitude(m)
	b = strconv.AppendUint(b, units/uint64(One), 10)
	fraction := units % uint64(One)
	if fraction == 0 {
		return b
	}
	b = append(b, '.')
	for scale := uint64(One) / 10; fraction > 0; scale /= 10 {
		b = append(b, '0'+byte(fraction/scale)) //nolint:gosec // one decimal digit
		fraction %= scale
	}
	return b
}

func magnitude(m Micro) uint64 {
	if m == math.MinInt64 {
		return 1 << 63
	}
	if m < 0 {
		return uint64(-m)
	}
	return uint64(m)
}

// MarshalJSON writes the decimal number of credits.
func (m Micro) MarshalJSON() ([]byte, error) {
	return m.appendDecimal(nil), nil
}

// UnmarshalJSON reads a JSON number or a string that holds a decimal amount of credits.
func (m *Micro) UnmarshalJSON(data []byte) error {
	text := string(data)
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	parsed, err := Parse(text)
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// UnmarshalText reads a decimal amount of credits.
func (m *Micro) UnmarshalText(text []byte) error {
	parsed, err := Parse(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}
