import numpy as np, time, sys
from pathlib import Path
from xuankan_worker.releases.training_data import TrainingData
from xuankan_worker.engines.runtime import open_session
from xuankan_worker.releases.nearness import nearness, Kernel
from xuankan_worker.releases.fusion import log_softmax
A=Path('artifacts'); D=TrainingData.load(A/'data.npz'); T=D.template
s=open_session(A/'release/encoder.onnx',1); sp=D.splits['dev']; N=int(sys.argv[1])
J=np.concatenate([D.splits['train'].truth,D.splits['late'].truth]); Y=np.concatenate([D.splits['train'].year,D.splits['late'].year])
W=np.array([0.3249385916904703, 0.27431853851144494, 0.868882009723985, 0.22895706448868589]); K=Kernel(.05,6.,2023)
z=np.load(A/'home/minilm-late-dev.npz'); P=z['parts'].astype(float); t=0; res=[[],[]]; agree=[]
for i in range(N):
    ids=np.concatenate([[T.cls_id],sp.manuscripts[i],[T.sep_id]]).astype(np.int32)[None]; n=np.array([ids.shape[1]],np.int32)
    a=time.time(); lo,nb,ne=s.run(['logits','neighbours','nearness'],{'input_ids':ids,'lengths':n,'first_lengths':n}); t+=time.time()-a
    near=nearness(ne,nb.astype(np.int64),J,Y,632,K); c=sp.candidates[i].astype(int)
    q=np.stack([sp.first_stage[i],log_softmax(lo)[0][c],near.mean[0][c],near.density[0][c]],1)@W
    for k,x in enumerate((P[i]@W,q)):
        own=c==sp.truth[i]; res[k].append(1/((x>x[own][0]).sum()+1) if own.any() else 0)
print('float',np.mean(res[0]),'int8',np.mean(res[1]),'top1',np.mean(np.array(res[0])==1),np.mean(np.array(res[1])==1),'ms/row',1000*t/N)
