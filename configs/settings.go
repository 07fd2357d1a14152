package configs

import (
	"fmt"
	"reflect"
)

// Setting is one key of a configuration, with its value for people.
type Setting struct {
	Key   string // receivers[0].fft, as in Fault.Field
	Value string // empty when nothing is set; secrets are stars
}

// Settings lists every key of a struct that Decode fills, as it stands now, in the order of the fields.
func Settings(config any) []Setting { return settings("", reflect.ValueOf(config)) }

func settings(key string, v reflect.Value) []Setting {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return []Setting{{Key: key}}
		}
		return settings(key, v.Elem())
	}
	_, prints := v.Interface().(fmt.Stringer)
	switch {
	case prints:
	case v.Kind() == reflect.Struct:
		var all []Setting
		for i := range v.NumField() {
			if name := v.Type().Field(i).Tag.Get("yaml"); name != "" && name != "-" {
				all = append(all, settings(join(key, name), v.Field(i))...)
			}
		}
		return all
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct && v.Len() > 0:
		var all []Setting
		for i := range v.Len() {
			all = append(all, settings(fmt.Sprintf("%s[%d]", key, i), v.Index(i))...)
		}
		return all
	}
	return []Setting{{key, fmt.Sprint(v.Interface())}}
}
