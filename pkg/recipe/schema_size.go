package recipe

import (
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxSchemaNodes bounds a JSON Schema with every reference written out.
const maxSchemaNodes = 5_000

// checkSize refuses a schema that takes exponential time to validate against: references that fan out, and recursion, which
// can double at each level of the value. Both are counted as if they were written out.
func checkSize(s *jsonschema.Schema) error {
	left := maxSchemaNodes
	if count(s, &left); left < 0 {
		return fmt.Errorf("the schema is recursive or too large: more than %d subschemas when every $ref is written out", maxSchemaNodes)
	}
	return nil
}

func count(s *jsonschema.Schema, left *int) {
	if s == nil || *left < 0 {
		return
	}
	*left--
	for _, one := range []*jsonschema.Schema{
		s.Ref, s.RecursiveRef, s.Not, s.If, s.Then, s.Else, s.PropertyNames, s.UnevaluatedProperties,
		s.Contains, s.Items2020, s.UnevaluatedItems, s.ContentSchema,
	} {
		count(one, left)
	}
	if s.DynamicRef != nil {
		count(s.DynamicRef.Ref, left)
	}
	for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf, s.PrefixItems} {
		for _, one := range list {
			count(one, left)
		}
	}
	for _, one := range s.Properties {
		count(one, left)
	}
	for _, one := range s.PatternProperties {
		count(one, left)
	}
	for _, one := range s.DependentSchemas {
		count(one, left)
	}
	if one, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
		count(one, left)
	}
}
