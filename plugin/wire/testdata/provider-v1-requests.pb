
plugin/wire/provider.protoesky.plugin.v1"	
Nothing"%
DescribeRequest
host (	Rhost"u
Description
name (	Rname
version (	Rversion"
capabilities (	Rcapabilities
state (	Rstate"+
ProbeRequest
	state_dir (RstateDir"Z
ProbeReport
usable (Rusable3
findings (2.esky.plugin.v1.FindingRfindings"K
Finding
fatal (Rfatal
text (	Rtext
remedy (	Rremedy"«
StartRequest
argv (Rargv
env (Renv
dir (Rdir1
streams (2.esky.plugin.v1.StreamsRstreams
	state_dir (RstateDir
hold (	RholdC
options (2).esky.plugin.v1.StartRequest.OptionsEntryRoptions:
OptionsEntry
key (	Rkey
value (	Rvalue:8"O
Streams
stdin (Rstdin
stdout (Rstdout
stderr (Rstderr"d
Handle
provider (	Rprovider
version (Rversion
pid (Rpid
data (Rdata"¢
CheckpointRequest(
job (2.esky.plugin.v1.HandleRjob
dir (Rdir
stop (Rstop

generation (R
generation
hold_ms (RholdMsH
options (2..esky.plugin.v1.CheckpointRequest.OptionsEntryRoptions:
OptionsEntry
key (	Rkey
value (	Rvalue:8"u
CheckpointAnswer4
progress (2.esky.plugin.v1.ProgressRprogress+
image (2.esky.plugin.v1.ImageRimage"J
Progress
phase (	Rphase
done (Rdone
total (Rtotal"K
FinishRequest(
job (2.esky.plugin.v1.HandleRjob
end (Rend"¯
ResumeRequest
dir (Rdir
	state_dir (RstateDir1
streams (2.esky.plugin.v1.StreamsRstreams
hold (	Rhold
files (	RfilesD
options (2*.esky.plugin.v1.ResumeRequest.OptionsEntryRoptions
env (Renv:
OptionsEntry
key (	Rkey
value (	Rvalue:8"w
ResumeAnswer4
progress (2.esky.plugin.v1.ProgressRprogress1
resumed (2.esky.plugin.v1.ResumedRresumed"x
Resumed(
job (2.esky.plugin.v1.HandleRjob
bytes (Rbytes
took_ns (RtookNs
notes (	Rnotes"c
SignalRequest(
job (2.esky.plugin.v1.HandleRjob
signal (Rsignal
all (Rall"2
Exit
code (Rcode
signal (Rsignal"W
AnswerRequest(
job (2.esky.plugin.v1.HandleRjob
	published (R	published" 
ImageRequest
dir (Rdir":
	ImageList-
images (2.esky.plugin.v1.ImageRimages"­
Image
dir (Rdir&
created_unix_ns (RcreatedUnixNs
bytes (Rbytes
pause_ns (RpauseNs
took_ns (RtookNs
notes (	Rnotes
command (Rcommand6
about (2 .esky.plugin.v1.Image.AboutEntryRabout8

AboutEntry
key (	Rkey
value (	Rvalue:82ÿ
ProviderH
Describe.esky.plugin.v1.DescribeRequest.esky.plugin.v1.DescriptionB
Probe.esky.plugin.v1.ProbeRequest.esky.plugin.v1.ProbeReport=
Start.esky.plugin.v1.StartRequest.esky.plugin.v1.HandleS

Checkpoint!.esky.plugin.v1.CheckpointRequest .esky.plugin.v1.CheckpointAnswer0@
Finish.esky.plugin.v1.FinishRequest.esky.plugin.v1.NothingG
Resume.esky.plugin.v1.ResumeRequest.esky.plugin.v1.ResumeAnswer0@
Signal.esky.plugin.v1.SignalRequest.esky.plugin.v1.Nothing4
Wait.esky.plugin.v1.Handle.esky.plugin.v1.Exit:
Recover.esky.plugin.v1.Handle.esky.plugin.v1.NothingA
Images.esky.plugin.v1.ImageRequest.esky.plugin.v1.ImageListD
DescribeImage.esky.plugin.v1.ImageRequest.esky.plugin.v1.ImageB
VerifyImage.esky.plugin.v1.ImageRequest.esky.plugin.v1.ImageD
RemoveImage.esky.plugin.v1.ImageRequest.esky.plugin.v1.Nothing=
Requests.esky.plugin.v1.Handle.esky.plugin.v1.Nothing0@
Answer.esky.plugin.v1.AnswerRequest.esky.plugin.v1.NothingB&Z$github.com/esky-hpc/esky/plugin/wirebproto3