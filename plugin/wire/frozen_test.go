// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// TestFrozen: what the protocol had at any time is there, unchanged, so that programs
// of then and of now understand each other. ESKY_FREEZE=1 writes what is missing in
// testdata, for what was added; what is there is never written again.
func TestFrozen(t *testing.T) {
	for name, now := range map[string]protoreflect.FileDescriptor{
		"provider-v1": File_plugin_wire_provider_proto, "scheduler-v1": File_plugin_wire_scheduler_proto,
		"provider-v1-requests": File_plugin_wire_provider_proto,
	} {
		path := filepath.Join("testdata", name+".pb")
		b, err := os.ReadFile(path)
		if os.IsNotExist(err) && os.Getenv("ESKY_FREEZE") != "" {
			if b, err = proto.Marshal(protodesc.ToFileDescriptorProto(now)); err == nil {
				err = os.WriteFile(path, b, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		f := new(descriptorpb.FileDescriptorProto)
		if err := proto.Unmarshal(b, f); err != nil {
			t.Fatal(err)
		}
		then, err := protodesc.NewFile(f, nil)
		if err != nil {
			t.Fatal(err)
		}
		if then.Messages().Len() < 5 || then.Services().Len() != 1 {
			t.Fatalf("%s is not whole", path)
		}
		for i := range then.Messages().Len() {
			sameMessage(t, then.Messages().Get(i), now)
		}
		sameService(t, then.Services().Get(0), now)
	}
}

func sameMessage(t *testing.T, then protoreflect.MessageDescriptor, now protoreflect.FileDescriptor) {
	m := now.Messages().ByName(then.Name())
	if m == nil {
		t.Errorf("message %s is gone", then.Name())
		return
	}
	for i := range then.Fields().Len() {
		a := then.Fields().Get(i)
		b := m.Fields().ByNumber(a.Number())
		if b == nil || a.Name() != b.Name() || a.Kind() != b.Kind() || a.Cardinality() != b.Cardinality() || a.IsMap() != b.IsMap() {
			t.Errorf("field %d of %s was %v, is %v", a.Number(), then.Name(), a, b)
		}
	}
}

func sameService(t *testing.T, then protoreflect.ServiceDescriptor, now protoreflect.FileDescriptor) {
	s := now.Services().ByName(then.Name())
	for i := range then.Methods().Len() {
		a := then.Methods().Get(i)
		b := s.Methods().ByName(a.Name())
		if b == nil || a.Input().FullName() != b.Input().FullName() || a.Output().FullName() != b.Output().FullName() ||
			a.IsStreamingServer() != b.IsStreamingServer() || a.IsStreamingClient() != b.IsStreamingClient() {
			t.Errorf("call %s was %v, is %v", a.Name(), a, b)
		}
	}
}
