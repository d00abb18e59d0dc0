package recipe

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// errTooLarge says that a result has more than maxResultBytes.
var errTooLarge = errors.New("the value is too large")

// toNative turns the result of an expression into what encoding/json would decode, and says what that cost.
// What lies in the scope as it is comes back without a copy. It is counted all the same, because an expression can name a large
// value many times, unless it is the whole result: that cannot be larger than the scope.
func toNative(value ref.Val) (native any, cost uint64, err error) {
	if native, ok := borrowed(value); ok {
		return native, 0, nil
	}
	c := converter{left: maxResultBytes}
	native = c.convert(value)
	return native, uint64(max(maxResultBytes-c.left, 0) / bytesPerUnit), c.err
}

// borrowed returns the list or object of the scope behind a CEL value.
func borrowed(value ref.Val) (any, bool) {
	switch value.(type) {
	case traits.Lister, traits.Mapper:
		switch native := value.Value().(type) {
		case map[string]any:
			return native, true
		case []any:
			return native, true
		}
	}
	return nil, false
}

type converter struct {
	left int
	err  error
}

func (c *converter) spend(bytes int) bool {
	c.left -= bytes
	if c.left < 0 && c.err == nil {
		c.err = errTooLarge
	}
	return c.err == nil
}

func (c *converter) fail(err error) any {
	if c.err == nil {
		c.err = err
	}
	return nil
}

func (c *converter) convert(value ref.Val) any {
	const scalar = 8
	if !c.spend(scalar) {
		return nil
	}
	switch value := value.(type) {
	case types.Null:
		return nil
	case types.Bool:
		return bool(value)
	case types.String:
		return c.text(string(value))
	case types.Int:
		return float64(value)
	case types.Uint:
		return float64(value)
	case types.Double:
		if math.IsNaN(float64(value)) || math.IsInf(float64(value), 0) {
			return c.fail(fmt.Errorf("%v is not a JSON number", float64(value)))
		}
		return float64(value)
	case types.Bytes:
		return c.text(base64.StdEncoding.EncodeToString(value))
	case types.Timestamp:
		return value.Format(time.RFC3339Nano)
	case types.Duration:
		return value.String()
	case *types.Optional:
		if !value.HasValue() {
			return nil
		}
		return c.convert(value.GetValue())
	}
	if native, ok := borrowed(value); ok {
		c.spend(weightOf(native, c.left/bytesPerUnit) * bytesPerUnit)
		return native
	}
	switch value := value.(type) {
	case traits.Lister:
		return c.list(value)
	case traits.Mapper:
		return c.object(value)
	}
	return c.fail(fmt.Errorf("a value of type %s has no place in JSON", value.Type().TypeName()))
}

func (c *converter) text(s string) any {
	if !c.spend(len(s)) {
		return nil
	}
	return s
}

func (c *converter) list(list traits.Lister) any {
	values := make([]any, 0, min(length(list), c.left))
	for it := list.Iterator(); it.HasNext() == types.True && c.err == nil; {
		values = append(values, c.convert(it.Next()))
	}
	return values
}

func (c *converter) object(object traits.Mapper) any {
	values := make(map[string]any)
	for it := object.Iterator(); it.HasNext() == types.True && c.err == nil; {
		key := it.Next()
		var name string
		switch key := key.(type) {
		case types.String:
			name = string(key)
		case types.Int, types.Uint, types.Bool, types.Double:
			name, _ = asText(c.convert(key))
		default:
			return c.fail(fmt.Errorf("a key of type %s has no place in JSON", key.Type().TypeName()))
		}
		if !c.spend(len(name)) {
			return nil
		}
		values[name] = c.convert(object.Get(key))
	}
	return values
}
