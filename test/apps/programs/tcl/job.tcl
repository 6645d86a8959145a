# SPDX-License-Identifier: Apache-2.0
# The event loop: timers and readable pipes of children, big integers.
set sum 1
set ticks 0
set lines 0
set total 0
proc tick {} {
    global sum ticks
    for {set i 0} {$i < 400} {incr i} {
        set sum [expr {($sum * 6364136223846793005 + 1442695040888963407) % (1 << 256)}]
    }
    puts "tick [incr ticks] [format %llx $sum]"
    if {$ticks < 320} { after 10 tick } else { set ::ready 1 }
}
proc line {pipe} {
    global lines total
    if {[gets $pipe text] >= 0} { incr lines; incr total $text; return }
    if {[eof $pipe]} { close $pipe; set ::closed 1 }
}
fconfigure stdout -buffering line
set pipe [open "|sh -c {i=0; while \[ \$i -lt 160 \]; do echo \$i; i=\$((i+1)); sleep 0.02; done}" r]
fconfigure $pipe -blocking 0
fileevent $pipe readable [list line $pipe]
after 10 tick
if {![info exists closed]} { vwait closed }
if {![info exists ready]} { vwait ready }
puts "lines $lines total $total"
