package recipe

import (
	"errors"
	"math/bits"
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// distinct keeps the first of equal values. CEL compares all pairs; here only those that are lists or objects are.
func distinct(m meter, args []ref.Val, next implementation) ref.Val {
	list, ok := args[0].(traits.Lister)
	if !ok {
		return next(args)
	}
	m.charge(length(list))
	scalars := make(map[any]bool)
	var aggregates, unique []ref.Val
	for it := list.Iterator(); it.HasNext() == types.True; {
		value := it.Next()
		if key, ok := scalarKey(value); ok {
			if !scalars[key] {
				scalars[key] = true
				unique = append(unique, value)
			}
			continue
		}
		m.charge(m.weigh(value) * len(aggregates))
		if !slices.ContainsFunc(aggregates, func(other ref.Val) bool { return types.Equal(value, other) == types.True }) {
			aggregates = append(aggregates, value)
			unique = append(unique, value)
		}
	}
	return types.NewRefValList(types.DefaultTypeAdapter, unique)
}

// paysForElements is for functions that look at each element of a list once.
func paysForElements(m meter, args []ref.Val, next implementation) ref.Val {
	if list, ok := args[0].(traits.Lister); ok {
		m.charge(length(list))
	}
	return next(args)
}

// sum adds numbers up; that of an empty list is 0. CEL has no such function, and no loop that a recipe could write it with.
func sum(value ref.Val) ref.Val {
	list, ok := value.(traits.Lister)
	if !ok {
		return noOverload("sum", []ref.Val{value})
	}
	total := 0.0
	for it := list.Iterator(); it.HasNext() == types.True; {
		switch number := it.Next().(type) {
		case types.Double:
			total += float64(number)
		case types.Int:
			total += float64(number)
		default:
			return types.NewErr("sum: a list of numbers, not one with a %s", number.Type().TypeName())
		}
	}
	return types.Double(total)
}

// scalarKey is the same for values that CEL takes to be equal: 1 is 1.0.
func scalarKey(value ref.Val) (any, bool) {
	switch value := value.(type) {
	case types.String, types.Bool, types.Double, types.Null:
		return value, true
	case types.Int:
		return types.Double(value), value > -maxExactInteger && value < maxExactInteger
	}
	return nil, false
}

// sortList and sortByKeys replace CEL's sort and sortBy. Theirs is not stable, so that sorting by one key and then by another
// does not work, and refuses keys that are partly ints and partly doubles, which [4, 4.5] is.
func sortList(m meter, args []ref.Val, _ implementation) ref.Val {
	return sortByKeys(m, []ref.Val{args[0], args[0]}, nil)
}

func sortByKeys(m meter, args []ref.Val, _ implementation) ref.Val {
	list, ok := args[0].(traits.Lister)
	keys, keysOK := args[1].(traits.Lister)
	if !ok || !keysOK {
		return noOverload("sort", args)
	}
	n := length(list)
	m.charge(m.weigh(keys) * bits.Len(uint(n)))

	type entry struct{ key, value ref.Val }
	entries := make([]entry, n)
	values, sortKeys := elements(list), elements(keys)
	for i := range entries {
		entries[i] = entry{key: sortKeys[i], value: values[i]}
	}
	var failure error
	slices.SortStableFunc(entries, func(a, b entry) int {
		order, err := compare(a.key, b.key)
		failure = errors.Join(failure, err)
		return order
	})
	if failure != nil {
		return types.NewErr("sort: the keys must be all numbers, all strings or all of another type with an order")
	}
	for i := range entries {
		values[i] = entries[i].value
	}
	return types.NewRefValList(types.DefaultTypeAdapter, values)
}

var errNoOrder = errors.New("no order")

func compare(a, b ref.Val) (int, error) {
	comparer, ok := a.(traits.Comparer)
	if !ok {
		return 0, errNoOrder
	}
	order, ok := comparer.Compare(b).(types.Int)
	if !ok {
		return 0, errNoOrder
	}
	return int(order), nil
}
