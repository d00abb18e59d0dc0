package recipe

import (
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// bytesPerUnit is how much text costs one unit, as in CEL's own cost model.
const bytesPerUnit = 10

// meter charges the cost of an evaluation. Charging more than the limit ends the evaluation. There is no tracker while a
// program is planned, when CEL folds conversions of literals.
type meter struct {
	tracker *cost.Tracker
}

func (m meter) charge(units int) {
	if m.tracker == nil {
		return
	}
	m.tracker.EvalUnary(nil, 0, charge{}, types.Int(units), nil)
}

// weigh charges and returns the number of values in a value, and text by its length. It looks no further than the limit: a
// value that holds itself many times over can be larger than the machine.
func (m meter) weigh(value ref.Val) int {
	left := maxCost + 1
	if m.tracker != nil {
		left -= int(min(m.tracker.ActualCost(), maxCost))
	}
	weight := weightOf(value, left)
	m.charge(weight)
	return weight
}

func weightOf(value any, limit int) int {
	weight := 1
	switch value := value.(type) {
	case string:
		weight += len(value) / bytesPerUnit
	case types.String:
		weight += len(value) / bytesPerUnit
	case types.Bytes:
		weight += len(value) / bytesPerUnit
	case []any:
		for _, element := range value {
			if weight > limit {
				break
			}
			weight += weightOf(element, limit-weight)
		}
	case map[string]any:
		for key, element := range value {
			if weight > limit {
				break
			}
			weight += len(key)/bytesPerUnit + weightOf(element, limit-weight)
		}
	case traits.Lister:
		if native, ok := borrowed(value); ok {
			return weightOf(native, limit)
		}
		for it := value.Iterator(); it.HasNext() == types.True && weight <= limit; {
			weight += weightOf(it.Next(), limit-weight)
		}
	case traits.Mapper:
		if native, ok := borrowed(value); ok {
			return weightOf(native, limit)
		}
		for it := value.Iterator(); it.HasNext() == types.True && weight <= limit; {
			key := it.Next()
			weight += weightOf(key, limit-weight) + weightOf(value.Get(key), limit-weight)
		}
	case *types.Optional:
		if value.HasValue() {
			return weightOf(value.GetValue(), limit)
		}
	}
	return weight
}

// textSize is what a function pays for the text that it reads.
func textSize(args []ref.Val) int {
	size := 0
	for _, arg := range args {
		switch arg := arg.(type) {
		case types.String:
			size += len(arg) / bytesPerUnit
		case types.Bytes:
			size += len(arg) / bytesPerUnit
		}
	}
	return size
}

// builtSize is what a function pays for the text or the list that it has built.
func builtSize(result ref.Val) int {
	switch result := result.(type) {
	case types.String:
		return len(result) / bytesPerUnit
	case types.Bytes:
		return len(result) / bytesPerUnit
	case traits.MutableLister:
		return 0
	case traits.Lister:
		return length(result)
	}
	return 0
}

func length(list traits.Lister) int {
	size, _ := list.Size().(types.Int)
	return int(size)
}

func elements(list traits.Lister) []ref.Val {
	values := make([]ref.Val, 0, length(list))
	for it := list.Iterator(); it.HasNext() == types.True; {
		values = append(values, it.Next())
	}
	return values
}

// charge is the call that meter.charge pretends to make, because a tracker takes costs only for calls.
type charge struct{}

// Function implements cost.Call.
func (charge) Function() string { return "@charge" }

// OverloadID implements cost.Call.
func (charge) OverloadID() string { return "@charge" }

// costModel adds to CEL's cost model what it charges for "@charge", and for what functions read and build whose types are known only when they run.
type costModel struct{}

// CallCost implements cost.ActualCostEstimator; nil leaves the call to CEL's model.
func (costModel) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	var units int
	switch {
	case function == "@charge":
		amount, _ := args[0].(types.Int)
		units = int(amount)
	case overload == "":
		units = 1 + textSize(args) + builtSize(result)
	default:
		return nil
	}
	return new(uint64(max(units, 0)))
}
