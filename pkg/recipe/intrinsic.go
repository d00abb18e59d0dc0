package recipe

import (
	"math"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// intrinsic stands in front of one of CEL's functions, for one of two reasons. CEL counts the cost of a call after the call, so
// whatever can take long, or build something large, in a single call has to pay before. And CEL keeps ints and doubles apart,
// which JSON does not. next is CEL's own implementation.
type intrinsic func(m meter, args []ref.Val, next implementation) ref.Val

type implementation func(args []ref.Val) ref.Val

// newIntrinsics names every function of the environment that must not be called as it is, but for matches, which is planned. A
// test makes sure that each function is either here or known to be harmless.
func newIntrinsics() map[string]intrinsic {
	return map[string]intrinsic{
		operators.Add:           add,
		operators.Subtract:      mixNumbers,
		operators.Multiply:      mixNumbers,
		operators.Divide:        mixNumbers,
		operators.Modulo:        modulo,
		operators.Equals:        equals,
		operators.NotEquals:     notEquals,
		operators.In:            contains,
		"string":                text,
		"slice":                 countsWhole,
		"substring":             countsWhole,
		"charAt":                countsWhole,
		"size":                  unchanged,
		"indexOf":               indexOf,
		"lastIndexOf":           indexOf,
		"split":                 countsWhole,
		"lists.range":           countsWhole,
		"flatten":               flatten,
		"replace":               replace,
		"join":                  join,
		"getFullYear":           paysForTimeZone,
		"getMonth":              paysForTimeZone,
		"getDate":               paysForTimeZone,
		"getDayOfMonth":         paysForTimeZone,
		"getDayOfWeek":          paysForTimeZone,
		"getDayOfYear":          paysForTimeZone,
		"getHours":              paysForTimeZone,
		"getMinutes":            paysForTimeZone,
		"getSeconds":            paysForTimeZone,
		"getMilliseconds":       paysForTimeZone,
		"format":                paysForOperands,
		"json.encode":           paysForOperands,
		"cel.@mapInsert":        insert,
		"sort":                  sortList,
		"@sortByAssociatedKeys": sortByKeys,
		"distinct":              distinct,
		"sum":                   paysForElements,
		"sets.contains":         paysForPairs,
		"sets.equivalent":       paysForPairs,
		"sets.intersects":       paysForPairs,
		"hasOnly":               paysForPairs,
		"hasAny":                paysForPairs,
		"hasAll":                paysForPairs,
		"hasExactly":            paysForPairs,
		"timestamp":             countsWhole,
		"math.bitAnd":           countsWhole,
		"math.bitOr":            countsWhole,
		"math.bitXor":           countsWhole,
		"math.bitNot":           countsWhole,
		"math.bitShiftLeft":     countsWhole,
		"math.bitShiftRight":    countsWhole,
	}
}

// intercept replaces the calls of functions that have an intrinsic while a program is planned.
func (c *Compiler) intercept(planned interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := planned.(interpreter.InterpretableCall)
	if !ok {
		return planned, nil
	}
	replaced := &intrinsicCall{InterpretableV2: planned, args: call.Args(), next: c.implementations[call.Function()]}
	if call.Function() == overloads.Matches {
		match, err := newMatch(replaced.args)
		if err != nil {
			return nil, err
		}
		replaced.intrinsic = match.call
		return replaced, nil
	}
	if replaced.intrinsic = c.intrinsics[call.Function()]; replaced.intrinsic == nil {
		return planned, nil
	}
	return replaced, nil
}

// implementations finds CEL's own implementation of each function that has an intrinsic. It chooses the overload by the types
// of the arguments.
func implementations(env *cel.Env, intrinsics map[string]intrinsic) (map[string]implementation, error) {
	found := make(map[string]implementation)
	for name := range intrinsics {
		bindings, err := env.Functions()[name].Bindings()
		if err != nil {
			return nil, err
		}
		for _, overload := range bindings {
			if overload.Operator == name {
				found[name] = invoke(name, overload)
			}
		}
	}
	return found, nil
}

func invoke(name string, overload *functions.Overload) implementation {
	return func(args []ref.Val) ref.Val {
		switch {
		case overload.OperandTrait != 0 && !args[0].Type().HasTrait(overload.OperandTrait):
			return noOverload(name, args)
		case len(args) == 1 && overload.Unary != nil:
			return overload.Unary(args[0])
		case len(args) == 2 && overload.Binary != nil:
			return overload.Binary(args[0], args[1])
		case overload.Function != nil:
			return overload.Function(args...)
		}
		return noOverload(name, args)
	}
}

func noOverload(name string, args []ref.Val) ref.Val {
	signature := make([]string, len(args))
	for i, arg := range args {
		signature[i] = arg.Type().TypeName()
	}
	return types.NewErr("no such overload: %s(%s)", name, strings.Join(signature, ", "))
}

// intrinsicCall is a planned call with an intrinsic in front of it. It does not show that it is a call, or CEL's own
// optimisations would put their version of the function back.
type intrinsicCall struct {
	interpreter.InterpretableV2
	args      []interpreter.InterpretableV2
	intrinsic intrinsic
	next      implementation
}

// Exec evaluates the arguments and calls the intrinsic.
func (c *intrinsicCall) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	values := make([]ref.Val, len(c.args))
	for i, arg := range c.args {
		values[i] = arg.Exec(frame)
		if types.IsUnknownOrError(values[i]) {
			return values[i]
		}
	}
	tracker := frame.CostTracker()
	result := types.LabelErrNode(c.ID(), c.intrinsic(meter{tracker}, values, c.next))
	meter{tracker}.charge(1 + textSize(values) + builtSize(result))
	return result
}

// Eval implements interpreter.Interpretable.
func (c *intrinsicCall) Eval(vars interpreter.Activation) ref.Val {
	return interpreter.EvalActivation(vars, c.Exec)
}

// add joins two strings or lists, bounded, and adds numbers. A list is copied: CEL would chain the two, and a chain of chains
// takes its time when it is read.
func add(m meter, args []ref.Val, next implementation) ref.Val {
	switch left := args[0].(type) {
	case types.String:
		if right, ok := args[1].(types.String); ok && len(left)+len(right) > maxResultBytes {
			return types.WrapErr(errTooLarge)
		}
	case traits.MutableLister:
		return left.Add(args[1])
	case traits.Lister:
		right, ok := args[1].(traits.Lister)
		if !ok {
			break
		}
		m.charge(length(left) + length(right))
		return types.NewRefValList(types.DefaultTypeAdapter, append(elements(left), elements(right)...))
	}
	return mixNumbers(m, args, next)
}

// mixNumbers turns an int into a double when the other operand is a double.
func mixNumbers(_ meter, args []ref.Val, next implementation) ref.Val {
	if len(args) == 2 {
		left, leftIsDouble := args[0].(types.Double)
		right, rightIsDouble := args[1].(types.Double)
		if n, ok := args[0].(types.Int); ok && rightIsDouble {
			return next([]ref.Val{types.Double(n), right})
		}
		if n, ok := args[1].(types.Int); ok && leftIsDouble {
			return next([]ref.Val{left, types.Double(n)})
		}
	}
	return next(args)
}

// modulo also takes doubles, which CEL's does not.
func modulo(_ meter, args []ref.Val, next implementation) ref.Val {
	left, leftIsInt := args[0].(types.Int)
	right, rightIsInt := args[1].(types.Int)
	x, leftIsDouble := args[0].(types.Double)
	y, rightIsDouble := args[1].(types.Double)
	if leftIsInt {
		x = types.Double(left)
	}
	if rightIsInt {
		y = types.Double(right)
	}
	if leftIsInt && rightIsInt || !leftIsInt && !leftIsDouble || !rightIsInt && !rightIsDouble {
		return next(args)
	}
	if y == 0 {
		return types.NewErr("modulus by zero")
	}
	return types.Double(math.Mod(float64(x), float64(y)))
}

func equals(m meter, args []ref.Val, _ implementation) ref.Val {
	// The weight of one side is enough: Equal stops where the other one ends.
	m.weigh(args[0])
	return types.Equal(args[0], args[1])
}

func notEquals(m meter, args []ref.Val, next implementation) ref.Val {
	if same, ok := equals(m, args, next).(types.Bool); ok {
		return !same
	}
	return types.True
}

func contains(m meter, args []ref.Val, next implementation) ref.Val {
	if list, ok := args[1].(traits.Lister); ok {
		if _, isScalar := args[0].(traits.Comparer); isScalar {
			m.charge(length(list) * weightOf(args[0], maxCost))
		} else {
			m.weigh(list)
		}
	}
	return next(args)
}

// text writes a double as JSON does: CEL would make 1.234567e+06 of a million.
func text(_ meter, args []ref.Val, next implementation) ref.Val {
	if number, ok := args[0].(types.Double); ok {
		return types.String(formatNumber(float64(number)))
	}
	return next(args)
}

// countsWhole makes an int of each whole double, for functions that take only ints where they take numbers.
func countsWhole(_ meter, args []ref.Val, next implementation) ref.Val {
	for i, arg := range args {
		if number, ok := arg.(types.Double); ok && math.Abs(float64(number)) <= maxExactInteger &&
			float64(number) == math.Trunc(float64(number)) {
			args[i] = types.Int(number)
		}
	}
	return next(args)
}

// unchanged only pays for reading text, like every intrinsic: CEL takes counting the characters of a text to be free.
func unchanged(_ meter, args []ref.Val, next implementation) ref.Val {
	return next(args)
}

func paysForOperands(m meter, args []ref.Val, next implementation) ref.Val {
	for _, arg := range args {
		m.weigh(arg)
	}
	return next(args)
}

// paysForTimeZone is for functions that look a time zone up by its name, in a file.
func paysForTimeZone(m meter, args []ref.Val, next implementation) ref.Val {
	const lookup = 1000
	if len(args) == 2 {
		m.charge(lookup)
	}
	return next(args)
}

func flatten(m meter, args []ref.Val, next implementation) ref.Val {
	m.weigh(args[0])
	return countsWhole(m, args, next)
}

// paysForPairs is for functions that compare every element of one list with every element of another, or of the same one.
func paysForPairs(m meter, args []ref.Val, next implementation) ref.Val {
	const comparisonsPerUnit = 10
	first, ok := args[0].(traits.Lister)
	second, alsoOK := args[len(args)-1].(traits.Lister)
	if ok && alsoOK {
		m.charge(length(first) * m.weigh(second) / comparisonsPerUnit)
		m.charge(length(second) * m.weigh(first) / comparisonsPerUnit)
	}
	return next(args)
}

// insert adds to the map that a transformMap or transformMapEntry builds. CEL's own way looks at the whole map at each turn.
func insert(m meter, args []ref.Val, next implementation) ref.Val {
	target, ok := args[0].(traits.MutableMapper)
	if !ok {
		return next(args)
	}
	if len(args) == 3 {
		return target.Insert(args[1], args[2])
	}
	entries, ok := args[1].(traits.Mapper)
	if !ok {
		return next(args)
	}
	for it := entries.Iterator(); it.HasNext() == types.True; {
		m.charge(1)
		key := it.Next()
		if result := target.Insert(key, entries.Get(key)); types.IsError(result) {
			return result
		}
	}
	return target
}
