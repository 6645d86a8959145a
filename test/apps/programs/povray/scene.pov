// SPDX-License-Identifier: Apache-2.0
#version 3.7;
global_settings { assumed_gamma 1 max_trace_level 8 }
camera { location <0, 4, -9> look_at <0, 1, 0> }
light_source { <6, 9, -6> rgb 1 area_light x*2, z*2, 3, 3 }
light_source { <-8, 6, -3> rgb <0.3, 0.3, 0.5> }
plane { y, 0 pigment { checker rgb 1 rgb 0.2 } finish { reflection 0.2 } }
#declare R = seed(7);
#declare N = 0;
#while (N < 60)
  sphere {
    <rand(R)*10-5, rand(R)*3+0.4, rand(R)*8-3>, 0.4
    #if (mod(N, 3) = 0) texture { pigment { rgbf <0.9, 0.95, 1, 0.9> } finish { reflection 0.1 } } interior { ior 1.5 }
    #else pigment { rgb <rand(R), rand(R), rand(R)> } finish { phong 0.8 reflection 0.2 } normal { bumps 0.3 scale 0.1 }
    #end
  }
  #declare N = N + 1;
#end
