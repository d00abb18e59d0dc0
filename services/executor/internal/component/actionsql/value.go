package actionsql

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

const (
	// maxExact is the largest whole number up to which a float64 holds every one.
	maxExact = 1 << 53
	// exactDigits is how many significant decimal digits a float64 always keeps.
	exactDigits = 15
)

// decode makes what a recipe can work with of a value as Postgres writes it. Types that JSON does not have, and whatever cannot be read,
// stay as that text.
func decode(oid uint32, raw []byte) any {
	if raw == nil {
		return nil
	}
	text := validText(raw)
	switch oid {
	case pgtype.BoolOID:
		return text == "t"
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.OIDOID, pgtype.Int8OID, pgtype.NumericOID:
		return decodeNumber(text)
	case pgtype.Float4OID, pgtype.Float8OID:
		if number, err := strconv.ParseFloat(text, 64); err == nil && !math.IsInf(number, 0) && !math.IsNaN(number) {
			return number
		}
	case pgtype.JSONOID, pgtype.JSONBOID:
		var decoded any
		if json.Unmarshal(raw, &decoded) == nil {
			return decoded
		}
	case pgtype.TimestamptzOID:
		return decodeTime("2006-01-02 15:04:05.999999Z07", text)
	case pgtype.TimestampOID:
		return decodeTime("2006-01-02 15:04:05.999999", text)
	case pgtype.ByteaOID:
		if digits, isHex := bytes.CutPrefix(raw, []byte(`\x`)); isHex {
			if data, err := hex.DecodeString(string(digits)); err == nil {
				return base64.StdEncoding.EncodeToString(data)
			}
		}
	}
	if element, isArray := elementOf(oid); isArray {
		if list, ok := parseArray(text, func(text string) any { return decode(element, []byte(text)) }); ok {
			return list
		}
	}
	return text
}

// decodeNumber gives a number where a float64 holds it exactly, else its digits.
func decodeNumber(text string) any {
	number, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(number, 0) || math.IsNaN(number) {
		return text
	}
	if whole, err := strconv.ParseInt(text, 10, 64); err == nil && whole >= -maxExact && whole <= maxExact {
		return number
	}
	if digits := strings.TrimLeft(strings.NewReplacer("-", "", ".", "").Replace(text), "0"); len(digits) > exactDigits {
		return text
	}
	return number
}

// decodeTime gives RFC 3339 in UTC.
func decodeTime(layout, text string) string {
	parsed, err := time.Parse(layout, text)
	if err != nil { // infinity, or a year that RFC 3339 does not have
		return text
	}
	return parsed.UTC().Format(time.RFC3339Nano)
}

func validText(raw []byte) string {
	return strings.ToValidUTF8(string(raw), "\uFFFD")
}

// encodeParams writes parameters as text, which Postgres reads according to the type that each place has.
func encodeParams(params []any, oids []uint32) ([][]byte, error) {
	if len(params) != len(oids) {
		return nil, component.Failure(problem.ComponentError, "the query has %d parameters and params has %d values", len(oids), len(params))
	}
	encoded := make([][]byte, len(params))
	for i, param := range params {
		encoded[i] = encode(oids[i], param)
	}
	return encoded, nil
}

func encode(oid uint32, value any) []byte {
	switch value := value.(type) {
	case nil:
		return nil
	case string:
		if oid == pgtype.ByteaOID && !strings.HasPrefix(value, `\x`) {
			if data, err := base64.StdEncoding.DecodeString(value); err == nil {
				return []byte(`\x` + hex.EncodeToString(data))
			}
		}
		return []byte(value)
	case []any:
		if !takesJSON(oid) {
			element, _ := elementOf(oid)
			return []byte(arrayLiteral(value, element))
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil // a value of a recipe can always be written
	}
	return text
}

// takesJSON tells the types for which a list is a document and not an array.
func takesJSON(oid uint32) bool {
	switch oid {
	case pgtype.JSONOID, pgtype.JSONBOID, pgtype.TextOID, pgtype.VarcharOID, pgtype.BPCharOID:
		return true
	}
	return false
}
