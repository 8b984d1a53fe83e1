while not (W/"minilm"/"late"/"training.json").exists(): time.sleep(.5)
COMPILED=False
import xuankan_worker.releases.recipe as R
from xuankan_worker.releases.encoder_training import Targets, encode
r=recipe('minilm','held',first=W/'minilm')
sp=DATA.splits['train']; held=np.random.default_rng(13).choice(632,60,replace=False)
allowed=~np.isin(sp.truth,held)
# targets without the held journals: the first stage's list, those journals at nothing
fs=sp.first_stage.copy(); fs[np.isin(sp.candidates,held)]=-60
r._encoder('encoder',unpack('minilm'),sp,allowed,Targets(sp.candidates,fs),EncoderSettings(epochs=7,papers=128,rate=3e-4,within_s=60))
e=r.load_encoder('encoder'); tr=r.encode(e,sp); dv=r.encode(e,DATA.splits['dev'])
q=lambda v:np.rint(v*np.float32(127)/np.abs(v).max(1,keepdims=True)).astype(np.int8)
np.savez(W/'held'/'dev.npz',logits=dv.logits,emb=dv.embeddings.astype(np.float16))
np.savez_compressed(W/'held'/'train.npz',emb=q(tr.embeddings)); say('held done')
